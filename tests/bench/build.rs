//! Compiles the trimmed ext_proc protocol and the client of Kvasir's own. `protox` parses the files, so no `protoc` is needed
//! on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["envoy/service/ext_proc/v3/external_processor.proto"], ["proto"])?;
    tonic_prost_build::configure().build_client(false).bytes(".").compile_fds(files)?;
    println!("cargo::rerun-if-changed=../../shared/proto");
    let files = protox::compile(["kvasir/v1/routing.proto"], ["../../shared/proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .extern_path(".kvasir.v1", "::shared::wire")
        .compile_fds(files)?;
    Ok(())
}
