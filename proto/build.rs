//! Compiles the `.proto` files without protoc; the generated code is not committed.

use std::path::Path;

use prost::Message as _;

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
    // For whoever has to know the messages by name: the JSON gateway.
    let out = std::env::var_os("OUT_DIR").expect("cargo says where");
    std::fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())
        .expect("OUT_DIR can be written to");
    std::fs::write(Path::new(&out).join("methods.rs"), methods(&descriptors))
        .expect("OUT_DIR can be written to");
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

/// The methods of all services that clients call, as a table.
fn methods(descriptors: &prost_types::FileDescriptorSet) -> String {
    let mut table = String::from("&[");
    for file in descriptors.file.iter().filter(|file| !file.package().starts_with("kvd.")) {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let kind = match (method.client_streaming(), method.server_streaming()) {
                    (false, false) => "Unary",
                    (false, true) => "ServerStream",
                    (true, _) => "BidiStream",
                };
                table += &format!("Method {{ path: {path:?}, kind: MethodKind::{kind} }},");
            }
        }
    }
    table + "]"
}
