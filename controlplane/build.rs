//! Service stubs: Kvasir's own, whose messages are `shared::wire`, and Envoy's external processing protocol. `protox`
//! parses the files, so no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../shared/proto");
    let files = protox::compile(["kvasir/v1/routing.proto"], ["../shared/proto"])?;
    tonic_prost_build::configure().build_client(true).extern_path(".kvasir.v1", "::shared::wire").compile_fds(files)?;
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["envoy/service/ext_proc/v3/external_processor.proto"], ["proto"])?;
    tonic_prost_build::configure().build_client(true).bytes(".").compile_fds(files)?;
    Ok(())
}
