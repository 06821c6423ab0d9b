//! gRPC health checking (grpc.health.v1.Health/Check), as the kubelet asks for it.

use std::time::Duration;

use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;

/// Whether the application says that it serves; otherwise why it does not.
pub(super) async fn check(authority: &str, service: &str, within: Duration) -> Result<(), String> {
    tokio::time::timeout(within, call(authority, service))
        .await
        .unwrap_or_else(|_| Err(format!("the application did not answer within {within:?}")))
}

async fn call(authority: &str, service: &str) -> Result<(), String> {
    let reached = |error: tonic::transport::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("the application cannot be reached at {authority}: {cause}")
    };
    let channel = Endpoint::from_shared(format!("http://{authority}")).map_err(reached)?;
    let mut client = tonic::client::Grpc::new(channel.connect().await.map_err(reached)?);
    client.ready().await.map_err(reached)?;
    let request = Request::new(HealthCheckRequest { service: service.to_owned() });
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let answer = client.unary(request, path, codec).await;
    match answer.map(|answer| answer.into_inner().status) {
        Ok(SERVING) => Ok(()),
        Ok(other) => Err(format!("the application's health is {other}, not SERVING")),
        Err(status) => Err(refused(&status)),
    }
}

fn refused(status: &Status) -> String {
    format!("the application answered {:?}: {}", status.code(), status.message())
}
