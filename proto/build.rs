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

    // Every RPC that clients may call, for whoever must not forget one.
    let methods =
        descriptors.file.iter().filter(|file| file.package() != "kvd.peer").flat_map(|file| {
            file.service.iter().flat_map(|service| {
                let name = format!("{}.{}", file.package(), service.name());
                service.method.iter().map(move |method| format!("/{name}/{}", method.name()))
            })
        });
    let methods = format!("&{:#?}", methods.collect::<Vec<_>>());
    let out = std::env::var_os("OUT_DIR").expect("cargo says where generated code goes");
    std::fs::write(Path::new(&out).join("methods.rs"), methods)
        .expect("generated code is written to OUT_DIR");

    tonic_prost_build::configure()
        .build_client(std::env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .codec_path("crate::codec::SizedCodec")
        .extern_path(".mvccpb.KeyValue", "crate::EncodedKeyValue")
        .bytes(".kvd.peer")
        .compile_fds(descriptors)
        .expect("generated code is written to OUT_DIR");
}
