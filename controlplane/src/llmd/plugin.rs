//! One entry of `plugins`: what its type is for, and what becomes of it here. A type may have several parts: a saturation
//! detector is a filter as well, and one that is put into a scheduling profile is used as that.

use shared::wire;
use shared::wire::filter::Kind as FilterKind;
use shared::wire::scorer::Kind as ScorerKind;

use super::fields::Fields;
use super::flow_policies::{Detector, Fairness, Ordering, UsageLimit};
use super::handlers::{Decider, HandlerDraft};
use super::report::Fate;
use super::sources::{Extractor, FileDiscovery, Source};
use super::{Admitter, Parser};

/// An entry of `plugins`, read.
pub(super) struct Plugin {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) path: String,
    pub(super) parts: Vec<Part>,
    pub(super) fate: Fate,
    pub(super) needs: Vec<Need>,
    /// It cannot be honoured, which is said already.
    pub(super) refused: bool,
    /// By llm-d's defaults, not by the document.
    pub(super) added: bool,
}

/// What a plugin is for.
pub(super) enum Part {
    Filter(FilterPart),
    Scorer(ScorerPart),
    Picker {
        picker: wire::Picker,
        most: Option<u32>,
    },
    Handler(HandlerDraft),
    Decider(Decider),
    Producer(Data),
    Admitter(Admitter),
    Fairness(Fairness),
    Ordering(Ordering),
    UsageLimit(UsageLimit),
    Detector(Detector),
    Eviction,
    Parser(Parser),
    Source(Source),
    Extractor(Extractor),
    Discovery(FileDiscovery),
    /// Headers that name a session, which is then the flow.
    AgentIdentity(Vec<String>),
}

/// A filter before its profile is known.
pub(super) enum FilterPart {
    Ready(FilterKind),
    /// Without the attribute's number.
    Attribute(String, wire::AttributeLimit),
    Session(Session),
    /// Keeps everybody, so far.
    Open,
}

/// A scorer before its profile is known.
pub(super) enum ScorerPart {
    Ready(ScorerKind),
    /// Without the attribute's number.
    Attribute(String, wire::AttributeScore),
    Session(Session),
    /// Scores everybody 0, so far.
    Even,
}

/// Who has a session is told by a header that the response brought.
pub(super) struct Session {
    pub(super) header: String,
    /// Whose endpoint it is; `None`: the primary profile's.
    pub(super) profile: Option<String>,
}

/// What producers produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Data {
    PrefixMatches,
    /// The same, from the engines' KV events.
    PreciseMatches,
    InFlightLoad,
    Latency,
    Tokens,
    Sessions,
    Multimodal,
}

/// What a plugin reads, and whose it wants.
pub(super) struct Need {
    pub(super) data: Data,
    pub(super) path: String,
    /// `None`: the default producer's.
    pub(super) producer: Option<String>,
}

/// What a type's reader makes of the parameters.
pub(super) struct Made {
    pub(super) parts: Vec<Part>,
    pub(super) fate: Fate,
    /// What is wrong has been told.
    pub(super) refused: bool,
}

impl Made {
    pub(super) fn new(part: Part, fate: Fate) -> Option<Self> {
        Some(Self::of(vec![part], fate))
    }

    pub(super) const fn of(parts: Vec<Part>, fate: Fate) -> Self {
        Self { parts, fate, refused: false }
    }

    /// What is refused leaves nothing.
    pub(super) fn or_refused(made: Option<Self>) -> Option<Self> {
        made.or(Some(Self { parts: Vec::new(), fate: Fate::Executed, refused: true }))
    }

    /// Nothing remains of it.
    pub(super) const fn nothing(fate: Fate) -> Option<Self> {
        Some(Self::of(Vec::new(), fate))
    }
}

/// The parameters of one plugin, and what it turns out to read.
pub(super) struct Parameters<'p> {
    pub(super) fields: Fields<'p>,
    pub(super) needs: Vec<Need>,
}

impl Data {
    /// The type that llm-d adds where nobody produces this, and the parameter that names another.
    pub(super) const fn default_producer(self) -> (&'static str, &'static str) {
        match self {
            Self::PrefixMatches | Self::PreciseMatches => {
                ("approx-prefix-cache-producer", "prefixMatchInfoProducerName")
            }
            Self::InFlightLoad => ("inflight-load-producer", "inFlightLoadProducerName"),
            Self::Latency => ("predicted-latency-producer", "latencyPredictionInfoProducerName"),
            Self::Tokens => ("token-producer", "tokenProducerName"),
            Self::Sessions => ("session-id-producer", "producer"),
            Self::Multimodal => ("mm-embeddings-cache-producer", "producerName"),
        }
    }

    /// Does one who wants `self` take what `other` says?
    pub(super) fn is_served_by(self, other: Self) -> bool {
        self == other || (self == Self::PrefixMatches && other == Self::PreciseMatches)
    }
}

impl Parameters<'_> {
    /// It reads `data`, of the producer that its parameter names.
    pub(super) fn need(&mut self, data: Data) {
        self.need_if(data, true);
    }

    /// The same, if it `reads` it; the parameter is there in any case.
    pub(super) fn need_if(&mut self, data: Data, reads: bool) {
        let (_, field) = data.default_producer();
        let producer = self.fields.name(field);
        if reads || producer.is_some() {
            self.needs.push(Need { data, path: self.fields.at(field), producer });
        }
    }

    /// It reads `data`; there is no parameter that names whose.
    pub(super) fn need_default(&mut self, data: Data) {
        self.needs.push(Need { data, path: String::new(), producer: None });
    }

    /// The plugin cannot be honoured.
    pub(super) fn refuse_type(&mut self, kind: &str, why: &str) -> Option<Made> {
        self.fields.forget();
        let path = self.fields.at("");
        let path = path.trim_end_matches(".parameters.");
        self.fields.problems().refuse(&format!("{path}.type"), why, format!("{kind:?}"));
        Made::or_refused(None)
    }
}

impl Part {
    /// In error texts.
    pub(super) const fn role(&self) -> &'static str {
        match self {
            Self::Filter(_) => "a filter",
            Self::Scorer(_) => "a scorer",
            Self::Picker { .. } => "a picker",
            Self::Handler(_) => "a profile handler",
            Self::Decider(_) => "a decider",
            Self::Producer(_) => "a data producer",
            Self::Admitter(_) => "an admitter",
            Self::Fairness(_) => "a fairness policy",
            Self::Ordering(_) => "an ordering policy",
            Self::UsageLimit(_) => "a usage limit policy",
            Self::Detector(_) => "a saturation detector",
            Self::Eviction => "an eviction policy",
            Self::Parser(_) => "a parser",
            Self::Source(_) => "a data source",
            Self::Extractor(_) => "an extractor",
            Self::Discovery(_) => "an endpoint discovery",
            Self::AgentIdentity(_) => "a request header processor",
        }
    }
}

impl Plugin {
    /// All that it is, in error texts.
    pub(super) fn role(&self) -> &'static str {
        self.parts.first().map_or("of no use here", Part::role)
    }

    /// Can it be put into a scheduling profile?
    pub(super) fn schedules(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Filter(_) | Part::Scorer(_) | Part::Picker { .. }))
    }

    pub(super) fn produces(&self) -> Option<Data> {
        self.parts.iter().find_map(|part| if let Part::Producer(data) = part { Some(*data) } else { None })
    }

    /// Is it of use only where something refers to it?
    pub(super) fn waits_to_be_named(&self) -> bool {
        let named = |part: &Part| match part {
            Part::Filter(_)
            | Part::Scorer(_)
            | Part::Picker { .. }
            | Part::Decider(_)
            | Part::Fairness(_)
            | Part::Ordering(_)
            | Part::UsageLimit(_)
            | Part::Detector(_)
            | Part::Parser(_)
            | Part::Source(_)
            | Part::Extractor(Extractor::Core { .. } | Extractor::Gpu | Extractor::Models)
            | Part::Discovery(_) => true,
            // It finds its endpoints by itself.
            Part::Extractor(Extractor::Topology) => false,
            Part::Handler(_) | Part::Producer(_) | Part::Admitter(_) | Part::Eviction | Part::AgentIdentity(_) => false,
        };
        !self.parts.is_empty() && self.parts.iter().all(named)
    }

    pub(super) fn picks(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Picker { .. }))
    }
}
