//! Compiles the certificate authority's proto without a system `protoc`.

use std::error::Error;

const PROTO: &str = "proto/istio/v1/auth/ca.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let files = protox::compile([PROTO], ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
