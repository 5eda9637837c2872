//! Protobuf by a descriptor set, as `protoc --descriptor_set_out --include_imports` writes it: made here field by field, and read
//! against what prost writes by types.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use karst_connectors::{DecodedRecord, Format, SourceSettings};
use karst_types::{BrokerTime, EventTime, Message, MessageSchema, Offset, PartitionId, Reason, Records, message::Messages};
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, MessageOptions, OneofDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use serde::Deserialize;

fn field(name: &str, number: i32, of: Type, type_name: &str) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(of.into()),
        type_name: (!type_name.is_empty()).then(|| type_name.into()),
        ..FieldDescriptorProto::default()
    }
}
fn repeated(field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto { label: Some(Label::Repeated.into()), ..field }
}
fn one_of(index: i32, field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto { oneof_index: Some(index), ..field }
}
fn message(name: &str, fields: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto { name: Some(name.into()), field: fields, ..DescriptorProto::default() }
}
fn file(name: &str, imports: &[&str]) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name.into()),
        package: Some("shop".into()),
        dependency: imports.iter().map(|import| (*import).into()).collect(),
        syntax: Some("proto3".into()),
        ..FileDescriptorProto::default()
    }
}

/// `money.proto`: `message Money { int64 units = 1; int32 nanos = 2; }` and `enum Status { UNKNOWN = 0; GOOD = 1; BAD = 5; }`
fn money() -> FileDescriptorProto {
    let value =
        |(name, number): (&str, i32)| EnumValueDescriptorProto { name: Some(name.into()), number: Some(number), options: None };
    FileDescriptorProto {
        message_type: vec![message("Money", vec![field("units", 1, Type::Int64, ""), field("nanos", 2, Type::Int32, "")])],
        enum_type: vec![EnumDescriptorProto {
            name: Some("Status".into()),
            value: [("UNKNOWN", 0), ("GOOD", 1), ("BAD", 5)].map(value).into(),
            ..EnumDescriptorProto::default()
        }],
        ..file("money.proto", &[])
    }
}

/// `payment.proto`, which imports the other: nested, repeated (packed and not), an enum, a map, a oneof, an optional number.
fn payment() -> FileDescriptorProto {
    let web = message("Web", vec![field("url", 1, Type::String, ""), repeated(field("tags", 2, Type::String, ""))]);
    let entry = DescriptorProto {
        options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
        ..message("SumsEntry", vec![field("key", 1, Type::String, ""), field("value", 2, Type::Message, ".shop.Money")])
    };
    let fields = vec![
        field("card", 1, Type::String, ""),
        repeated(field("amounts", 2, Type::Message, ".shop.Money")),
        field("status", 3, Type::Enum, ".shop.Status"),
        repeated(field("history", 4, Type::Enum, ".shop.Status")),
        repeated(field("sums", 5, Type::Message, ".shop.Payment.SumsEntry")),
        one_of(0, field("terminal", 6, Type::String, "")),
        one_of(0, field("web", 7, Type::Message, ".shop.Payment.Web")),
        FieldDescriptorProto { proto3_optional: Some(true), ..one_of(1, field("count", 8, Type::Sint32, "")) },
    ];
    let oneof = |name: &str| OneofDescriptorProto { name: Some(name.into()), options: None };
    let payment = DescriptorProto {
        nested_type: vec![web, entry],
        oneof_decl: vec![oneof("source"), oneof("_count")],
        ..message("Payment", fields)
    };
    FileDescriptorProto { message_type: vec![payment], ..file("payment.proto", &["money.proto"]) }
}

fn set(files: Vec<FileDescriptorProto>) -> Vec<u8> {
    FileDescriptorSet { file: files }.encode_to_vec()
}

/// The same by types of prost.
mod typed {
    use std::collections::BTreeMap;

    #[derive(prost::Message, Clone, PartialEq)]
    pub(super) struct Payment {
        #[prost(string, tag = "1")]
        pub(super) card: String,
        #[prost(message, repeated, tag = "2")]
        pub(super) amounts: Vec<Money>,
        #[prost(int32, tag = "3")]
        pub(super) status: i32,
        #[prost(int32, repeated, tag = "4")]
        pub(super) history: Vec<i32>,
        #[prost(btree_map = "string, message", tag = "5")]
        pub(super) sums: BTreeMap<String, Money>,
        #[prost(oneof = "Source", tags = "6, 7")]
        pub(super) source: Option<Source>,
        #[prost(sint32, optional, tag = "8")]
        pub(super) count: Option<i32>,
        /// Of a later version than the descriptor set.
        #[prost(string, tag = "99")]
        pub(super) added_later: String,
    }
    #[derive(prost::Message, Clone, Copy, PartialEq)]
    pub(super) struct Money {
        #[prost(int64, tag = "1")]
        pub(super) units: i64,
        #[prost(int32, tag = "2")]
        pub(super) nanos: i32,
    }
    #[derive(prost::Oneof, Clone, PartialEq)]
    pub(super) enum Source {
        #[prost(string, tag = "6")]
        Terminal(String),
        #[prost(message, tag = "7")]
        Web(Web),
    }
    #[derive(prost::Message, Clone, PartialEq)]
    pub(super) struct Web {
        #[prost(string, tag = "1")]
        pub(super) url: String,
        #[prost(string, repeated, tag = "2")]
        pub(super) tags: Vec<String>,
    }
}

/// What serde makes of it, by description.
#[derive(Deserialize, Debug, PartialEq)]
struct Payment {
    card: String,
    amounts: Vec<Money>,
    status: Status,
    history: Vec<Status>,
    sums: BTreeMap<String, Money>,
    terminal: Option<String>,
    web: Option<Web>,
    count: Option<i32>,
}
#[derive(Deserialize, Debug, PartialEq, Clone, Copy)]
struct Money {
    units: i64,
    nanos: i32,
}
#[derive(Deserialize, Debug, PartialEq)]
struct Web {
    url: String,
    tags: Vec<String>,
}
#[derive(Deserialize, Debug, PartialEq, Clone, Copy)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Unknown,
    Good,
    Bad,
}
const STATUSES: [(i32, Status); 3] = [(0, Status::Unknown), (1, Status::Good), (5, Status::Bad)];

impl Message for Payment {
    fn schema() -> &'static MessageSchema {
        &MessageSchema { name: "Payment", fields: &[], event_time: None }
    }
    fn event_time(&self) -> Option<EventTime> {
        None
    }
}

fn decode(format: &Format, value: &[u8]) -> Result<Payment, (Reason, String)> {
    assert_eq!(format.problems(), Vec::<String>::new());
    let mut records = Records::new("payments".into(), PartitionId(0));
    records.push(Offset(0), BrokerTime(0), None, Some(value));
    let mut decoded = format.decoder::<Payment>(&SourceSettings::new("payments")).decode(&records);
    if let DecodedRecord::Fault { reason, error } = decoded.events.remove(0) {
        return Err((reason, error));
    }
    Ok(decoded.messages.as_any_mut().downcast_mut::<Messages<Payment>>().unwrap().slots.remove(0).unwrap())
}

fn described() -> Format {
    Format::protobuf().descriptor_set(&set(vec![money(), payment()]), "shop.Payment").into()
}

fn expected(payment: &typed::Payment) -> Payment {
    let money = |money: &typed::Money| Money { units: money.units, nanos: money.nanos };
    let status = |number: &i32| STATUSES.iter().find(|(known, _)| known == number).unwrap().1;
    let (terminal, web) = match payment.source.clone() {
        Some(typed::Source::Terminal(terminal)) => (Some(terminal), None),
        Some(typed::Source::Web(web)) => (None, Some(Web { url: web.url, tags: web.tags })),
        None => (None, None),
    };
    Payment {
        card: payment.card.clone(),
        amounts: payment.amounts.iter().map(money).collect(),
        status: status(&payment.status),
        history: payment.history.iter().map(status).collect(),
        sums: payment.sums.iter().map(|(name, sum)| (name.clone(), money(sum))).collect(),
        terminal,
        web,
        count: payment.count,
    }
}

fn any_payment() -> impl Strategy<Value = typed::Payment> {
    let money = (any::<i64>(), any::<i32>()).prop_map(|(units, nanos)| typed::Money { units, nanos });
    let status = (0..3usize).prop_map(|index| STATUSES[index].0);
    let web = (".{0,4}", prop::collection::vec(".{0,3}", 0..3)).prop_map(|(url, tags)| typed::Web { url, tags });
    let source = prop_oneof![
        Just(None),
        ".{0,4}".prop_map(|terminal| Some(typed::Source::Terminal(terminal))),
        web.prop_map(|web| Some(typed::Source::Web(web))),
    ];
    let lists = (prop::collection::vec(money.clone(), 0..4), prop::collection::vec(status.clone(), 0..4));
    let sums = prop::collection::btree_map(".{0,3}", money, 0..3);
    (".{0,5}", lists, status, sums, source, any::<Option<i32>>(), ".{0,3}").prop_map(
        |(card, (amounts, history), status, sums, source, count, added_later)| typed::Payment {
            card,
            amounts,
            status,
            history,
            sums,
            source,
            count,
            added_later,
        },
    )
}

proptest! {
    #[test]
    fn by_a_descriptor_set_a_message_is_what_prost_wrote(payment in any_payment()) {
        let read = decode(&described(), &payment.encode_to_vec());
        prop_assert_eq!(read.unwrap(), expected(&payment));
    }
}

#[test]
fn a_configuration_file_gives_the_set_and_the_name_in_whichever_order() {
    let bytes = typed::Payment { card: "ada".into(), status: 5, ..typed::Payment::default() }.encode_to_vec();
    for order in [["descriptor_set", "message"], ["message", "descriptor_set"]] {
        let mut format = Format::named("protobuf").unwrap();
        for setting in order {
            match setting {
                "message" => format.set_text("message", "shop.Payment").unwrap(),
                _ => format.set_bytes(setting, &set(vec![money(), payment()])).unwrap(),
            }
        }
        assert_eq!(decode(&format, &bytes).unwrap().status, Status::Bad, "{order:?}");
    }
    let mut format = Format::named("protobuf").unwrap();
    format.set_bytes("descriptor_set", &set(vec![money()])).unwrap();
    assert!(!format.problems().is_empty(), "of which message?");
    assert!(format.set_bytes("proto", b"syntax = \"proto3\";").unwrap_err().contains("give one of them"));
    assert!(format.set_bytes("message", b"\xff").unwrap_err().contains("UTF-8"));
    assert!(format.set_bytes("descripter_set", b"").unwrap_err().contains("no setting descripter_set"));
}

#[test]
fn a_record_that_is_not_of_the_description_is_its_own_fault() {
    let bytes = typed::Payment { card: "ada".into(), ..typed::Payment::default() }.encode_to_vec();
    assert_eq!(decode(&described(), &bytes[..bytes.len() - 1]).unwrap_err().0, Reason::Malformed);
    let (reason, error) = decode(&described(), &[0x08, 1]).unwrap_err();
    assert_eq!(reason, Reason::Malformed, "a number where the text is: {error}");
    let (reason, error) = decode(&described(), &[0x18, 7]).unwrap_err();
    assert_eq!(reason, Reason::SchemaMismatch);
    assert!(error.contains("status") && error.contains('7'), "{error}");
}

#[test]
fn a_set_without_the_message_or_without_its_imports_is_told_before_anything_starts() {
    let problem = |bytes: &[u8], message: &str| {
        let problems = Format::from(Format::protobuf().descriptor_set(bytes, message)).problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].clone()
    };
    let whole = set(vec![money(), payment()]);
    let told = problem(&whole, "shop.Pament");
    assert!(told.contains("there is no message \"shop.Pament\"") && told.contains("shop.Payment"), "{told}");
    assert!(!told.contains("SumsEntry"), "what nobody wrote is not offered: {told}");
    let told = problem(&set(vec![payment()]), "shop.Payment");
    assert!(told.contains("money.proto") && told.contains("--include_imports"), "{told}");
    assert!(problem(&whole[..whole.len() - 3], "shop.Payment").contains("descriptor_set"));
    assert!(problem(b"syntax = \"proto3\";", "shop.Payment").contains("descriptor_set"));
    assert!(problem(b"", "shop.Payment").contains("there is no message"));
}
