//! Answers of an engine, compared with what an example computed without it.

use karst::{EngineHandle, EventTime, QueryRequest, Value};

/// What a value must be.
#[derive(Debug)]
#[allow(dead_code)] // not every example needs each of them
pub(crate) enum Expect {
    Exactly(Value),
    /// To the last bits of a float; `None`: null.
    Near(Option<f64>),
    /// Within so much of it.
    About(f64, f64),
    /// A float for each group, in any order.
    Groups(Vec<(String, f64)>),
}

fn near(expected: f64, got: f64) -> bool {
    (expected - got).abs() <= 1e-9 * expected.abs()
}

impl Expect {
    fn is(&self, got: &Value) -> bool {
        match (self, got) {
            (Self::Exactly(value), got) => value == got,
            (Self::Near(None), got) => *got == Value::Null,
            (Self::Near(Some(value)), Value::Float(got)) => near(*value, *got),
            (Self::About(value, error), Value::Float(got)) => (value - got).abs() <= error * value.abs(),
            (Self::Groups(groups), Value::Map(got)) => {
                let same = |(group, value): &(String, f64)| {
                    let of = |(key, got): &&(Value, Value)| {
                        *key == Value::Str(group.as_str().into()) && matches!(got, Value::Float(got) if near(*value, *got))
                    };
                    got.iter().any(|pair| of(&pair))
                };
                groups.len() == got.len() && groups.iter().all(same)
            }
            _ => false,
        }
    }
}

/// How many values were compared, and what differs, in words.
pub(crate) struct Checks<'a> {
    engine: &'a EngineHandle,
    pub(crate) compared: usize,
    pub(crate) differences: Vec<String>,
}

impl<'a> Checks<'a> {
    pub(crate) fn new(engine: &'a EngineHandle) -> Self {
        Self { engine, compared: 0, differences: Vec::new() }
    }

    /// Asks for features of an entity at an instant, in microseconds.
    pub(crate) fn check(&mut self, class: &str, id: &str, now: i64, expected: &[(&'static str, Expect)]) {
        let request = QueryRequest { now: Some(EventTime(now)), ..QueryRequest::new() }.input(format!("{class}.id"), id);
        let request = expected.iter().fold(request, |request, (name, _)| request.output(format!("{class}.{name}")));
        let answer = self.engine.query(&request);
        self.differences.extend(answer.errors.iter().map(|error| format!("{class} {id}: {}", error.message)));
        for ((name, expected), got) in expected.iter().zip(&answer.data) {
            self.compared += 1;
            if got.error.is_some() || !expected.is(&got.value) {
                let got = got.error.as_ref().map_or_else(|| format!("{:?}", got.value), |error| error.message.clone());
                self.differences.push(format!("{class} {id} {name} at {}: expected {expected:?}, got {got}", EventTime(now)));
            }
        }
    }
}
