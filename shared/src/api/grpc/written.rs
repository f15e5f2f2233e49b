//! vLLM's gRPC messages as a protobuf library that is not ours writes them, for tests.

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Tokenized {
    #[prost(string, tag = "1")]
    pub(crate) original_text: String,
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) input_ids: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Sampling {
    #[prost(float, optional, tag = "1")]
    pub(crate) temperature: Option<f32>,
    #[prost(uint32, optional, tag = "8")]
    pub(crate) max_tokens: Option<u32>,
    #[prost(string, repeated, tag = "10")]
    pub(crate) stop: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Media {
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) pixels: Vec<u8>,
    #[prost(string, repeated, tag = "6")]
    pub(crate) hashes: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Input {
    #[prost(message, tag = "2")]
    Tokenized(Tokenized),
    #[prost(string, tag = "3")]
    Text(String),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Generate {
    #[prost(string, tag = "1")]
    pub(crate) request_id: String,
    #[prost(oneof = "Input", tags = "2, 3")]
    pub(crate) input: Option<Input>,
    #[prost(message, optional, tag = "4")]
    pub(crate) sampling: Option<Sampling>,
    #[prost(bool, tag = "5")]
    pub(crate) stream: bool,
    #[prost(message, optional, tag = "7")]
    pub(crate) media: Option<Media>,
}

/// A message as the wire has it, uncompressed.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// A call for an answer to these ids.
pub(crate) fn generate(input_ids: &[u32]) -> Vec<u8> {
    let tokenized = Tokenized { input_ids: input_ids.to_vec(), ..Tokenized::default() };
    framed(&prost::Message::encode_to_vec(&Generate {
        input: Some(Input::Tokenized(tokenized)),
        ..Generate::default()
    }))
}
