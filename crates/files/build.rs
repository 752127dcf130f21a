//! Makes the gRPC service's code of its published description, without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const PROTO: &str = "proto/tertulia/peer/v1/peer.proto";
    println!("cargo:rerun-if-changed={PROTO}");
    let described = protox::compile([PROTO], ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(described)?;
    Ok(())
}
