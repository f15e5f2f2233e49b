//! What a gateway says of a request besides its bytes: which endpoints it may reach, who answered it, how bodies come.
//! Names and places are those of the Endpoint Picker Protocol 1.0; what is missing or of another type says nothing.

use prost_types::{Struct, value::Kind};
use shared::scheduling::subset::Subset;

use super::wire::{BodySendMode, Metadata, ProcessingRequest, ProtocolConfiguration};

/// Metadata namespace of choices: ours to the gateway, and who served back to us.
pub const NAMESPACE: &str = "envoy.lb";
const SUBSET_NAMESPACE: &str = "envoy.lb.subset_hint";
const SUBSET_KEY: &str = "x-gateway-destination-endpoint-subset";
const SERVED_KEY: &str = "x-gateway-destination-endpoint-served";
/// Where Envoy puts attributes; asked for by `response_attributes` of the ext_proc filter.
const ATTRIBUTES: &str = "envoy.filters.http.ext_proc";
const ADDRESS_ATTRIBUTE: &str = "upstream.address";

/// How a body comes, and is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMode {
    /// It does not.
    None,
    /// As a whole, after the headers were answered; changes of headers may still stand in its answer.
    Buffered,
    /// As `Buffered`, and it may be cut.
    BufferedPartial,
    /// In chunks that are answered one by one; the headers go on with their own answer.
    Streamed {
        /// Chunks come before the headers are answered.
        early: bool,
    },
    /// In chunks, given back in chunks of our own making; the headers wait for their answer.
    FullDuplex,
}

impl BodyMode {
    /// Of requests and responses. A gateway that says nothing does what the protocol asks for.
    #[must_use]
    pub fn of(config: Option<ProtocolConfiguration>) -> (Self, Self) {
        let Some(config) = config else { return (Self::FullDuplex, Self::FullDuplex) };
        let early = config.send_body_without_waiting_for_header_response;
        let mode = |mode: BodySendMode| match mode {
            BodySendMode::None => Self::None,
            BodySendMode::Streamed => Self::Streamed { early },
            BodySendMode::Buffered => Self::Buffered,
            BodySendMode::BufferedPartial => Self::BufferedPartial,
            BodySendMode::FullDuplexStreamed | BodySendMode::Grpc => Self::FullDuplex,
        };
        (mode(config.request_body_mode()), mode(config.response_body_mode()))
    }
}

/// The endpoints that the request may reach; `None`: all. An empty list allows nobody.
#[must_use]
pub fn subset(message: &ProcessingRequest) -> Option<Subset> {
    match lookup(message.metadata_context.as_ref()?, SUBSET_NAMESPACE, SUBSET_KEY)? {
        Kind::ListValue(list) => {
            let texts = list.values.iter().filter_map(|value| text(value.kind.as_ref()?));
            Some(Subset::of(texts.flat_map(|text| text.split(','))))
        }
        Kind::StringValue(list) => Some(list_of(list)),
        Kind::NullValue(_) | Kind::NumberValue(_) | Kind::BoolValue(_) | Kind::StructValue(_) => None,
    }
}

/// A comma-separated list of addresses.
#[must_use]
pub fn list_of(addresses: &str) -> Subset {
    Subset::of(addresses.split(','))
}

/// `ip:port` of who answered, when the gateway tells.
#[must_use]
pub fn served(message: &ProcessingRequest) -> Option<&str> {
    let metadata = message.metadata_context.as_ref();
    let told = metadata.and_then(|metadata| text(lookup(metadata, NAMESPACE, SERVED_KEY)?));
    let attribute = || text(message.attributes.get(ATTRIBUTES)?.fields.get(ADDRESS_ATTRIBUTE)?.kind.as_ref()?);
    told.or_else(attribute).filter(|address| !address.is_empty())
}

fn lookup<'a>(metadata: &'a Metadata, namespace: &str, key: &str) -> Option<&'a Kind> {
    let Struct { fields } = metadata.filter_metadata.get(namespace)?;
    fields.get(key)?.kind.as_ref()
}

fn text(kind: &Kind) -> Option<&str> {
    match kind {
        Kind::StringValue(text) => Some(text),
        Kind::NullValue(_) | Kind::NumberValue(_) | Kind::BoolValue(_) | Kind::StructValue(_) | Kind::ListValue(_) => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_types::{ListValue, Value};

    use super::*;

    fn told(namespace: &str, key: &str, kind: Kind) -> ProcessingRequest {
        let fields = [(key.to_owned(), Value { kind: Some(kind) })].into();
        let filter_metadata = [(namespace.to_owned(), Struct { fields })].into();
        ProcessingRequest { metadata_context: Some(Metadata { filter_metadata }), ..ProcessingRequest::default() }
    }

    fn list(addresses: &[&str]) -> Kind {
        let value = |address: &&str| Value { kind: Some(Kind::StringValue((*address).to_owned())) };
        Kind::ListValue(ListValue { values: addresses.iter().map(value).collect() })
    }

    #[test]
    fn a_subset_is_a_list_or_a_text_and_an_empty_one_is_not_none() {
        let hint = |kind| subset(&told(SUBSET_NAMESPACE, SUBSET_KEY, kind));
        let both = list(&["10.0.0.1:1", "10.0.0.2"]);
        assert_eq!(hint(both.clone()), Some(Subset::of(["10.0.0.1:1", "10.0.0.2"])));
        assert_eq!(hint(Kind::StringValue("10.0.0.1:1, 10.0.0.2".to_owned())), hint(both));
        assert_eq!(hint(list(&["10.0.0.1:1, 10.0.0.2"])), hint(list(&["10.0.0.1:1", "10.0.0.2"])));
        assert_eq!(hint(list(&[])), Some(Subset::default()));
        assert_eq!(hint(Kind::BoolValue(true)), None);
        assert_eq!(subset(&ProcessingRequest::default()), None);
        assert_eq!(subset(&told(NAMESPACE, SUBSET_KEY, list(&[]))), None);
    }

    #[test]
    fn who_served_is_read_from_metadata_then_from_attributes() {
        let text = |text: &str| Kind::StringValue(text.to_owned());
        let mut message = told(NAMESPACE, SERVED_KEY, text("10.0.0.1:1"));
        assert_eq!(served(&message), Some("10.0.0.1:1"));
        let fields = [(ADDRESS_ATTRIBUTE.to_owned(), Value { kind: Some(text("10.0.0.2:1")) })].into();
        message.attributes.insert(ATTRIBUTES.to_owned(), Struct { fields });
        assert_eq!(served(&message), Some("10.0.0.1:1"));
        message.metadata_context = None;
        assert_eq!(served(&message), Some("10.0.0.2:1"));
        assert_eq!(served(&told(NAMESPACE, SERVED_KEY, text(""))), None);
    }

    #[test]
    fn a_gateway_that_says_nothing_of_bodies_streams_both_ways() {
        assert_eq!(BodyMode::of(None), (BodyMode::FullDuplex, BodyMode::FullDuplex));
        let config = ProtocolConfiguration { request_body_mode: 1, response_body_mode: 2, ..Default::default() };
        assert_eq!(BodyMode::of(Some(config)), (BodyMode::Streamed { early: false }, BodyMode::Buffered));
        assert_eq!(BodyMode::of(Some(ProtocolConfiguration::default())), (BodyMode::None, BodyMode::None));
    }
}
