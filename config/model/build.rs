//! Compiles our own xDS extensions without a system `protoc`.

use std::error::Error;

const PROTOS: [&str; 6] = [
    "outrigger/v1/authorization.proto",
    "outrigger/v1/cluster.proto",
    "outrigger/v1/endpoint.proto",
    "outrigger/v1/limit.proto",
    "outrigger/v1/listener.proto",
    "outrigger/v1/route.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    prost_build::Config::new()
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::envoy_types::pb::google::protobuf")
        .compile_fds(descriptors)?;
    Ok(())
}
