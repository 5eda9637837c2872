//! Types of prost as messages.

/// Makes a type that implements [`prost::Message`] (as prost-build writes them) a message of Karst, which is read from Protobuf without
/// a description. The event time, if it has one, is an expression on the message.
///
/// ```
/// use karst_connectors::{export::prost, protobuf_message};
/// use karst_types::{EventTime, Message};
///
/// #[derive(Clone, PartialEq, prost::Message)]
/// struct Payment {
///     #[prost(string, tag = "1")]
///     card: String,
///     #[prost(int64, tag = "2")]
///     at_millis: i64,
/// }
/// protobuf_message!(Payment, "Payment", |payment| Some(EventTime::from_millis(payment.at_millis)));
/// assert_eq!(Payment { card: "ada".into(), at_millis: 1 }.event_time(), Some(EventTime::from_millis(1)));
/// ```
#[macro_export]
macro_rules! protobuf_message {
    ($message:ty, $name:literal) => {
        $crate::protobuf_message!($message, $name, |_message| ::core::option::Option::None);
    };
    ($message:ty, $name:literal, |$value:ident| $event_time:expr) => {
        impl $crate::export::Message for $message {
            const PROTOBUF: ::core::option::Option<$crate::export::ReadBytes<Self>> = ::core::option::Option::Some(|bytes| {
                <$message as $crate::export::prost::Message>::decode(bytes)
                    .map_err(|error| ::std::string::ToString::to_string(&error))
            });
            fn schema() -> &'static $crate::export::MessageSchema {
                const SCHEMA: $crate::export::MessageSchema =
                    $crate::export::MessageSchema { name: $name, fields: &[], event_time: ::core::option::Option::None };
                &SCHEMA
            }
            fn event_time(&self) -> ::core::option::Option<$crate::export::EventTime> {
                let $value = self;
                $event_time
            }
        }
        impl<'de> $crate::export::serde::Deserialize<'de> for $message {
            fn deserialize<D: $crate::export::serde::Deserializer<'de>>(_: D) -> ::core::result::Result<Self, D::Error> {
                ::core::result::Result::Err($crate::export::serde::de::Error::custom(::core::concat!(
                    $name,
                    " is a type of prost, which is read from Protobuf alone"
                )))
            }
        }
    };
}
