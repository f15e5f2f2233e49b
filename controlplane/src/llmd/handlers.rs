//! Profile handlers and deciders: which scheduling profiles a request goes through, and when. One profile is the primary
//! one, whose endpoint gets the request; the others are checked and kept for disaggregation.

use super::fields::Fields;
use super::plugin::{Data, Made, Parameters, Part};
use super::report::Fate;

/// Which scheduling profiles a request goes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// The one that there is.
    Single,
    /// Encode, prefill and decode at pods of their own.
    Disaggregated(Disaggregation),
    /// The one that a header names.
    Header {
        /// In lower case.
        header: String,
        /// Without the header.
        default: String,
    },
    /// The one that there is; engines have a port per data-parallel rank.
    DataParallel {
        /// Of rank 0.
        primary_port: u16,
    },
}

/// Stages at pods of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disaggregation {
    /// Which stage chooses first.
    pub order: StageOrder,
    /// The decode profile, which is the primary one.
    pub decode: String,
    /// `None`: decode pods do it.
    pub prefill: Option<Stage>,
    /// `None`: prefill pods do it.
    pub encode: Option<Stage>,
}

/// Which stage chooses first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StageOrder {
    /// Decode, then encode, then prefill.
    #[default]
    DecodeFirst,
    /// Prefill, then encode, then decode.
    PrefillFirst,
}

/// A stage at pods of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its scheduling profile.
    pub profile: String,
    /// Which requests have it.
    pub decider: Decider,
}

/// Which requests have a stage of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// All.
    Always,
    /// Those with images, videos or audio.
    Multimodal,
    /// Those of which enough is not held.
    PrefixBased {
        /// Prompt tokens that are not held; 0: none ever has the stage.
        non_cached_tokens: u64,
        /// Shorter prompts do not have it.
        prompt_tokens: u64,
    },
}

/// A handler before its profiles and deciders are looked up.
pub(super) enum HandlerDraft {
    Single,
    Disaggregated(DisaggregationDraft),
    Header { header: String, default: String },
    DataParallel { primary_port: u16 },
}

pub(super) struct DisaggregationDraft {
    pub(super) path: String,
    pub(super) order: StageOrder,
    pub(super) decode: String,
    pub(super) prefill: String,
    pub(super) encode: String,
    pub(super) prefill_decider: Option<String>,
    pub(super) encode_decider: Option<String>,
}

impl DisaggregationDraft {
    fn has_stages(&self) -> bool {
        self.order == StageOrder::PrefillFirst || self.prefill_decider.is_some() || self.encode_decider.is_some()
    }
}

pub(super) fn make(kind: &str, with: &mut Parameters<'_>) -> Option<Made> {
    match kind {
        "single-profile-handler" => Made::new(Part::Handler(HandlerDraft::Single), Fate::Executed),
        "disagg-profile-handler" => {
            let draft = disaggregated(with);
            let fate = if draft.has_stages() { stages() } else { Fate::Executed };
            Made::new(Part::Handler(HandlerDraft::Disaggregated(draft)), fate)
        }
        "pd-profile-handler" => Made::new(Part::Handler(prefill_decode(with)), stages()),
        "disagg-headers-handler" | "prefill-header-handler" => {
            let _profiles = (with.fields.name("prefillProfile"), with.fields.name("encodeProfile"));
            let by = "disaggregation itself, which will write the headers of its stages";
            Made::nothing(Fate::replaced(by))
        }
        "header-profile-handler" => {
            let header = with.fields.name("headerName").unwrap_or_else(|| "epp-profile".to_owned());
            let default = with.fields.name("defaultProfile").unwrap_or_else(|| "decode".to_owned());
            let draft =
                HandlerDraft::Header { header: header.trim().to_ascii_lowercase(), default: default.trim().to_owned() };
            Made::new(Part::Handler(draft), Fate::kept("profiles by header; every request gets the default one"))
        }
        "data-parallel-profile-handler" => {
            let primary_port = port(&mut with.fields, "primaryPort").unwrap_or(8000);
            let by = "endpoints per rank: each of a pod's ports is one, and requests go to it directly";
            Made::new(Part::Handler(HandlerDraft::DataParallel { primary_port }), Fate::replaced(by))
        }
        "always-disagg-pd-decider" => Made::new(Part::Decider(Decider::Always), decides()),
        "always-disagg-multimodal-decider" => Made::new(Part::Decider(Decider::Multimodal), decides()),
        "prefix-based-pd-decider" => {
            let mut tokens = |field| with.fields.count(field, 0).unwrap_or(0).into();
            let decider = Decider::PrefixBased {
                non_cached_tokens: tokens("nonCachedTokens"),
                prompt_tokens: tokens("promptTokens"),
            };
            Made::new(Part::Decider(decider), decides())
        }
        _ => None,
    }
}

fn stages() -> Fate {
    Fate::kept("the stages beyond decode; every request is prefilled where it is decoded")
}

fn decides() -> Fate {
    Fate::kept("whether a request has a stage of its own")
}

fn port(fields: &mut Fields<'_>, field: &'static str) -> Option<u16> {
    fields.integer(field, 1, u16::MAX.into()).and_then(|port| u16::try_from(port).ok())
}

/// Both spellings: nested, and flat, which is deprecated; not mixed.
fn disaggregated(with: &mut Parameters<'_>) -> DisaggregationDraft {
    with.need_default(Data::PrefixMatches);
    with.need_default(Data::Tokens);
    let fields = &mut with.fields;
    let order = [("decode-first", StageOrder::DecodeFirst), ("prefill-first", StageOrder::PrefillFirst)];
    let order = fields.one_of("stageOrder", &order).unwrap_or_default();
    let profiles = fields.within("profiles").map(|mut map| ["decode", "prefill", "encode"].map(|name| map.name(name)));
    let deciders = fields.within("deciders").map(|mut map| ["prefill", "encode"].map(|name| map.name(name)));
    let flat_profiles = ["decodeProfile", "prefillProfile", "encodeProfile"].map(|name| fields.name(name));
    let [flat_prefill, older, flat_encode] =
        ["prefillDeciderPluginName", "deciderPluginName", "encodeDeciderPluginName"].map(|name| fields.name(name));
    let flat_deciders = [flat_prefill.or(older), flat_encode];
    let is_flat = flat_profiles.iter().chain(&flat_deciders).any(Option::is_some);
    if is_flat && (profiles.is_some() || deciders.is_some()) {
        let rule = "must be all in profiles and deciders, or all in the deprecated flat fields";
        fields.refuse_whole(rule, "both");
    }
    let [decode, prefill, encode] = profiles.unwrap_or(flat_profiles);
    let [prefill_decider, encode_decider] = deciders.unwrap_or(flat_deciders);
    if order == StageOrder::PrefillFirst && prefill_decider.is_some() {
        let rule = "must be left out with stageOrder prefill-first: every request is prefilled then";
        fields.refuse("deciders.prefill", rule, format!("{:?}", prefill_decider.as_deref().unwrap_or_default()));
    }
    let or = |name: Option<String>, default: &str| name.unwrap_or_else(|| default.to_owned());
    DisaggregationDraft {
        path: fields.at("deciders"),
        order,
        decode: or(decode, "decode"),
        prefill: or(prefill, "prefill"),
        encode: or(encode, "encode"),
        prefill_decider,
        encode_decider,
    }
}

/// The deprecated handler of two stages: it always has a decider.
fn prefill_decode(with: &mut Parameters<'_>) -> HandlerDraft {
    with.need(Data::PrefixMatches);
    let fields = &mut with.fields;
    let _primary = port(fields, "primaryPort");
    let _unused = (fields.name("prefixPluginType"), fields.name("prefixPluginName"));
    let or = |name: Option<String>, default: &str| name.unwrap_or_else(|| default.to_owned());
    HandlerDraft::Disaggregated(DisaggregationDraft {
        path: fields.at("deciderPluginName"),
        order: StageOrder::DecodeFirst,
        decode: or(fields.name("decodeProfile"), "decode"),
        prefill: or(fields.name("prefillProfile"), "prefill"),
        encode: "encode".to_owned(),
        prefill_decider: Some(or(fields.name("deciderPluginName"), "prefix-based-pd-decider")),
        encode_decider: None,
    })
}
