//! Compiles the `.proto` files without protoc; the generated code is not committed.

use std::path::Path;

fn main() {
    let files = [
        "rpc.proto",
        "lock.proto",
        "election.proto",
        "health.proto",
        "internal.proto",
        "peer.proto",
    ];
    let descriptors =
        protox::compile(files, [Path::new("etcd"), Path::new("kvd")]).expect("proto files compile");
    println!("cargo:rerun-if-changed=etcd");
    println!("cargo:rerun-if-changed=kvd");

    tonic_prost_build::configure()
        .build_client(std::env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .codec_path("crate::codec::SizedCodec")
        .extern_path(".mvccpb.KeyValue", "crate::EncodedKeyValue")
        .bytes(".kvd.peer")
        .compile_fds(descriptors)
        .expect("generated code is written to OUT_DIR");
}
