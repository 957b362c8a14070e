//! Answers in all formats, checked against what etcdctl 3.6.16 printed for them.

mod members;

use proto::EncodedKeyValue;
use proto::etcdserverpb::DowngradeInfo;
use proto::mvccpb::event::EventType;

use super::*;

const HEADER: ResponseHeader = ResponseHeader {
    cluster_id: 2_961_762_449_054_095_690,
    member_id: 11_201_878_611_396_189_134,
    revision: 3,
    raft_term: 2,
};

fn pair(mod_revision: i64, value: &'static [u8]) -> EncodedKeyValue {
    EncodedKeyValue::new(&KeyValue {
        key: b"a".as_slice().into(),
        create_revision: 2,
        mod_revision,
        version: mod_revision - 1,
        value: value.into(),
        lease: 0,
    })
}

fn render(format: Format, answer: &Answer<'_>) -> String {
    let bytes = Style { format, hex: false, value_only: false }.render(answer).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_put_with_the_previous_pair() {
    let put = PutResponse { header: Some(HEADER), prev_kv: Some(pair(2, b"x<y>&\"\\")) };
    let put = Answer::Put(&put);
    assert_eq!(render(Format::Simple, &put), "OK\na\nx<y>&\"\\\n");
    assert_eq!(
        render(Format::Json, &put),
        r#"{"header":{"cluster_id":2961762449054095690,"member_id":11201878611396189134,"revision":3,"raft_term":2},"prev_kv":{"key":"YQ==","create_revision":2,"mod_revision":2,"version":1,"value":"eDx5PiYiXA=="}}
"#
    );
    assert_eq!(
        render(Format::Fields, &put),
        r#""ClusterID" : 2961762449054095690
"MemberID" : 11201878611396189134
"Revision" : 3
"RaftTerm" : 2
"PrevKey" : "a"
"PrevCreateRevision" : 2
"PrevModRevision" : 2
"PrevVersion" : 1
"PrevValue" : "x<y>&\"\\"
"PrevLease" : 0
"#
    );
}

#[test]
fn a_get_in_protobuf_is_the_message() {
    let get = RangeResponse {
        header: Some(HEADER),
        kvs: vec![pair(3, b"b")],
        count: 1,
        ..RangeResponse::default()
    };
    let style = Style { format: Format::Protobuf, hex: false, value_only: false };
    let bytes = style.render(&Answer::Get(&get)).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "0a1908cab2d7e795e8928d2910ceb7c3caf3a7c4ba9b0118032002120c0a0161100218032002\
         2a01622001"
    );
}

#[test]
fn hex_shows_bytes_and_ids() {
    let get = RangeResponse {
        header: Some(HEADER),
        kvs: vec![pair(3, b"\xffz")],
        ..RangeResponse::default()
    };
    let hex = |format| {
        let bytes =
            Style { format, hex: true, value_only: false }.render(&Answer::Get(&get)).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(hex(Format::Simple), "\\x61\n\\xff\\x7a\n");
    let fields = hex(Format::Fields);
    assert!(fields.starts_with("\"ClusterID\" : 291a4b415cf5d94a\n"), "{fields}");
    assert!(fields.contains("\"Lease\" : 0000000000000000\n"), "{fields}");
}

#[test]
fn watches_in_json_have_gos_names() {
    let delete = Event {
        r#type: EventType::Delete.into(),
        kv: Some(EncodedKeyValue::new(&KeyValue {
            key: b"a".as_slice().into(),
            mod_revision: 4,
            ..KeyValue::default()
        })),
        prev_kv: None,
    };
    let watched = Watched { header: HEADER, events: Some(vec![delete]), ..Watched::default() };
    assert_eq!(
        render(Format::Json, &Answer::Watch(&watched)),
        r#"{"Header":{"cluster_id":2961762449054095690,"member_id":11201878611396189134,"revision":3,"raft_term":2},"Events":[{"type":1,"kv":{"key":"YQ==","mod_revision":4}}],"CompactRevision":0,"Canceled":false,"Created":false}
"#
    );
    assert_eq!(render(Format::Simple, &Answer::Watch(&watched)), "DELETE\na\n\n");
    let refused = Watched { canceled: true, ..Watched::default() };
    assert_eq!(
        render(Format::Json, &Answer::Watch(&refused)),
        "{\"Header\":{},\"Events\":null,\"CompactRevision\":0,\"Canceled\":true,\"Created\":false}\n"
    );
}

#[test]
fn a_status_in_json_and_simple() {
    let status = StatusResponse {
        version: "3.6.16".into(),
        db_size: 20_480,
        leader: HEADER.member_id,
        raft_index: 7,
        raft_term: 2,
        raft_applied_index: 7,
        db_size_in_use: 16_384,
        storage_version: "3.6.0".into(),
        db_size_quota: 2_147_483_648,
        downgrade_info: Some(DowngradeInfo::default()),
        ..StatusResponse::default()
    };
    let list = [EndpointStatus { endpoint: "127.0.0.1:23901".into(), header: HEADER, status }];
    let status = Answer::Status(&list);
    assert_eq!(
        render(Format::Json, &status),
        r#"[{"Endpoint":"127.0.0.1:23901","Status":{"header":{"cluster_id":2961762449054095690,"member_id":11201878611396189134,"revision":3,"raft_term":2},"version":"3.6.16","dbSize":20480,"leader":11201878611396189134,"raftIndex":7,"raftTerm":2,"raftAppliedIndex":7,"dbSizeInUse":16384,"storageVersion":"3.6.0","dbSizeQuota":2147483648,"downgradeInfo":{}}}]
"#
    );
    assert_eq!(
        render(Format::Simple, &status),
        "127.0.0.1:23901, 9b75113f3950dbce, 3.6.16, 3.6.0, 20 kB, 16 kB, 20%, 2.1 GB, true, false, 2, 7, 7, , , false\n"
    );
    assert_eq!(render(Format::Json, &Answer::Status(&[])), "null\n");
}

#[test]
fn json_escapes_what_html_would_read() {
    let health = [Health {
        endpoint: "<e>&\u{2028}\u{7}\n".into(),
        healthy: false,
        took: Duration::from_millis(5),
        error: "no".into(),
    }];
    assert_eq!(
        render(Format::Json, &Answer::Health(&health)),
        "[{\"endpoint\":\"\\u003ce\\u003e\\u0026\\u2028\\u0007\\n\",\"health\":false,\"took\":\"5ms\",\"error\":\"no\"}]\n"
    );
}

#[test]
fn formats_that_cannot_show_an_answer_refuse_it() {
    let style = |format| Style { format, hex: false, value_only: false };
    for (format, subject) in [
        (Format::Table, Subject::Keys),
        (Format::Protobuf, Subject::Endpoints),
        (Format::Table, Subject::Change),
        (Format::Fields, Subject::Change),
    ] {
        assert_eq!(style(format).check(subject).unwrap_err().exit, Exit::BadFeature);
    }
    assert!(style(Format::Table).check(Subject::Endpoints).is_ok());
    assert_eq!(Format::parse("yaml").unwrap_err().exit, Exit::BadFeature);
}
