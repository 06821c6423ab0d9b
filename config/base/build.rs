//! Compiles the protos of certificates, those of the authority and of the Workload API, without a system `protoc`.

use std::error::Error;

const PROTOS: [&str; 2] = ["proto/istio/v1/auth/ca.proto", "proto/spiffe/workload/workload.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for proto in PROTOS {
        println!("cargo:rerun-if-changed={proto}");
    }
    let files = protox::compile(PROTOS, ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
