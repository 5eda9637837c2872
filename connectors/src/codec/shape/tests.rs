//! Whatever the fast way reads, `serde_json` reads the same.

use super::*;

#[derive(serde::Deserialize, Debug, PartialEq)]
struct Card {
    user: String,
    amount: f64,
    at: i64,
    small: Option<u8>,
    status: Status,
    note: Option<String>,
    flag: bool,
}

#[derive(serde::Deserialize, Debug, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Status {
    Good,
    Bad,
}

const CARD: &str = r#"{"skipped":"it's","user":"ada","amount":12.50,"n":-7,"at":1700000000000,"small": 200, "status":"good","x":null,"note":null,"flag":true,"y":0.25}"#;

/// As bits, so that -0 and 0 differ.
fn of(card: Card) -> (u64, Card) {
    (card.amount.to_bits(), card)
}

#[test]
fn a_document_of_the_shape_is_read_and_others_are_left() {
    let shape = Shape::learn::<Card>(CARD).unwrap();
    let wanted: Vec<_> = shape.fields.iter().filter(|field| field.wanted).map(|field| &*field.name).collect();
    assert_eq!(wanted, ["user", "amount", "at", "small", "status", "note", "flag"]);
    assert_eq!(of(shape.read(CARD).unwrap()), of(serde_json::from_str(CARD).unwrap()));
    for (from, to) in [
        ("\"ada\"", "\"a\\u0064a\""),
        ("\"it's\"", "\"it\\\"s\""),
        ("\"it's\"", "[1]"),
        ("\"it's\"", "\"tab\there\""),
        ("\"user\"", "\"User\""),
        ("12.50", "1250e-2"),
        ("-7", "07"),
        ("-7", "-"),
        ("1700000000000", "123456789012345678901"),
        ("true", "1"),
        ("good", "best"),
        ("0.25}", "0.25"),
        ("0.25}", "0.25}}"),
        ("0.25}", "0.25,\"z\":1}"),
        ("0.25", "0."),
    ] {
        let other = CARD.replacen(from, to, 1);
        assert_ne!(other, CARD);
        assert!(shape.read::<Card>(&other).is_none(), "{other}");
    }
}

#[test]
fn fields_go_by_their_numbers_where_these_mean_the_same_as_the_names() {
    #[derive(serde::Deserialize, Debug, PartialEq)]
    struct Renamed {
        #[serde(alias = "uid", alias = "name")]
        user: String,
        #[serde(rename = "sum", default)]
        amount: f64,
        #[serde(skip)]
        _kept: u8,
        at: i64,
    }
    let numbers = |shape: &Shape| shape.fields.iter().map(|field| field.number.is_some()).collect::<Vec<_>>();
    let shape = Shape::learn::<Card>(CARD).unwrap();
    assert_eq!(numbers(&shape), shape.fields.iter().map(|field| field.wanted).collect::<Vec<_>>());
    for text in
        [r#"{"at":7,"x":1,"uid":"ada","sum":2.5}"#, r#"{"user":"ada","at":7}"#, r#"{"sum":1.0,"name":"ada","at":7,"_kept":9}"#]
    {
        let shape = Shape::learn::<Renamed>(text).unwrap();
        assert_eq!(shape.read::<Renamed>(text), serde_json::from_str(text).ok(), "{text}");
        assert!(!shape.in_order, "it has names that are not of this document");
    }
}

#[test]
fn fields_in_the_order_of_the_message_are_read_without_their_names_and_others_are_not() {
    #[derive(serde::Deserialize, Debug, PartialEq)]
    struct Pair {
        first: i64,
        #[serde(default)]
        second: Option<i64>,
    }
    for (text, in_order) in [
        (r#"{"x":"y","first":1,"second":2}"#, true),
        (r#"{"first":1,"x":null,"second":null}"#, true),
        (r#"{"second":2,"first":1}"#, false),
        (r#"{"first":1, "x":0}"#, false),
    ] {
        let shape = Shape::learn::<Pair>(text).unwrap();
        assert_eq!(shape.in_order, in_order, "{text}");
        assert_eq!(shape.read::<Pair>(text), serde_json::from_str(text).ok(), "{text}");
    }
}

/// Documents that are nearly of the shape: whatever is read here, `serde_json` reads the same.
#[test]
fn what_is_read_is_what_serde_json_reads() {
    let mut shape = Shape::learn::<Card>(CARD).unwrap();
    assert!(shape.in_order);
    let pieces = [
        "0",
        "00",
        "-0",
        "-0.0",
        "1",
        "9",
        "255",
        "256",
        "0.1",
        "3.14159",
        "9007199254740993.5",
        "900719925474099.3",
        "1e5",
        ".5",
        "5.",
        "123456789012345678",
        "1234567890123456789",
        "18446744073709551615",
        "-9223372036854775808",
        "0.0000000000000001",
        "null",
        "true",
        "fals",
        "\"\"",
        "\"bad\"",
        "\"é\"",
        "\"a\\n\"",
        "\"\u{1}\"",
        "{}",
        "[]",
        " ",
        ",",
        ":",
        "}",
        "\"",
        "\\",
        "",
        "\"a longer text without anything odd in it\"",
        "\"a longer text with one odd thing \\ in it\"",
        "\u{7f}",
        "€",
    ];
    let mut state = 7u64;
    let mut random = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    let values: Vec<(usize, usize)> = {
        let mut at = 0;
        let end_of = |field: &Field, at: &mut usize| {
            *at += field.before.text().len();
            let start = *at;
            let mut value = Cursor::new(CARD, start);
            value.skip().unwrap();
            *at = value.at();
            (start, *at)
        };
        shape.fields.iter().map(|field| end_of(field, &mut at)).collect()
    };
    let (mut read, mut left) = (0, 0);
    for round in 0..200_000 {
        shape.in_order = round % 2 == 0; // the fields as a sequence, or by name
        let (mut start, mut end) = values[random(values.len())];
        if random(4) == 0 {
            start = random(CARD.len());
            end = (start + random(3)).min(CARD.len());
        }
        let text = [&CARD[..start], pieces[random(pieces.len())], &CARD[end..]].concat();
        match shape.read::<Card>(&text) {
            Some(card) => {
                assert_eq!(serde_json::from_str(&text).map(of).ok(), Some(of(card)), "{text}");
                read += 1;
            }
            None => left += 1,
        }
    }
    assert!(read > 10_000 && left > 10_000, "{read} read, {left} left");
}

#[test]
fn a_shape_that_does_not_fit_is_dropped_and_another_learned() {
    let mut shapes = Shapes::new();
    shapes.learn::<Card>(CARD);
    assert!(shapes.read::<Card>(CARD).is_some());
    let other = CARD.replace("\"n\"", "\"m\"");
    let mut first = None;
    for round in 0..1000 {
        if shapes.read::<Card>(&other).is_some() {
            first.get_or_insert(round);
        } else {
            shapes.learn::<Card>(&other);
        }
    }
    assert!(first.is_some_and(|round| round < 100), "{first:?}");
}
