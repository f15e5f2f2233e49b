//! A scheduling profile as llm-d configures one, checked: what filters a pass has, what scores it adds up, how it picks.
//! What each of them computes is in `scheduling::profile`.

/// One pass: filters in order, then the weighted sum of scores, then the picker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// As configured.
    pub name: String,
    /// In the order of the configuration; at most 255.
    pub filters: Vec<NamedFilter>,
    /// Their order means nothing.
    pub scorers: Vec<WeightedScorer>,
    /// How the first is picked.
    pub picker: Picker,
}

/// How the first is picked from the scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Picker {
    /// The highest; equals in random order.
    #[default]
    MaxScore,
    /// Any.
    Random,
    /// With a chance in proportion to the score.
    WeightedRandom,
}

/// A filter with its name in explanations.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedFilter {
    /// As the plugin is called.
    pub name: String,
    /// What it keeps.
    pub filter: Filter,
}

/// What a filter keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Endpoints whose labels meet all requirements.
    Labels(Vec<LabelRequirement>),
    /// Endpoints within all limits.
    Limits {
        /// All hold.
        limits: Vec<MetricLimit>,
        /// Keep all when nobody is within them.
        fallback: bool,
    },
    /// Endpoints whose attribute compares.
    Attribute(AttributeLimit),
    /// Endpoints that hold most of the prompt.
    PrefixAffinity(PrefixAffinity),
    /// Endpoints predicted to meet the service levels; the others with this chance, 0..=1.
    HeadroomTier {
        /// Of choosing the others.
        exploration: f64,
    },
    /// Endpoints whose range of context lengths holds the prompt.
    ContextLength {
        /// Where the ranges are.
        label: String,
    },
}

/// One requirement of a Kubernetes label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelRequirement {
    /// Which label.
    pub label: String,
    /// One of these.
    pub values: Vec<String>,
    /// Met where the label is missing.
    pub or_missing: bool,
    /// Turned round.
    pub negated: bool,
    /// Any value will do.
    pub exists: bool,
}

/// A figure of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Booked: everybody's requests in flight.
    InFlightRequests,
    /// Booked: uncached prompt tokens before the first token.
    InFlightTokens,
    /// Requests in the batch, scraped.
    RunningRequests,
    /// Requests that wait in the engine, scraped.
    WaitingRequests,
    /// Fraction of the KV cache in use, scraped.
    KvUsed,
}

/// A bound on a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricLimit {
    /// Of what.
    pub metric: Metric,
    /// The most that is kept.
    pub most: f64,
}

/// A bound on an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttributeLimit {
    /// Number of the attribute in the live rows.
    pub attribute: u32,
    /// The attribute stands left of it.
    pub comparison: Comparison,
    /// And this right.
    pub value: f64,
    /// Drop those of whom it is not known.
    pub drop_unknown: bool,
    /// Keep all when nobody is left.
    pub fallback: bool,
}

/// An order between two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// <
    Less,
    /// <=
    LessOrEqual,
    /// \>
    Greater,
    /// \>=
    GreaterOrEqual,
    /// ==
    Equal,
    /// !=
    NotEqual,
}

/// Sticking to whoever holds the prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrefixAffinity {
    /// Share of the prompt that makes an endpoint a holder, 0..=1.
    pub threshold: f64,
    /// Chance to keep all, 0..=1.
    pub exploration: f64,
    /// How much longer the first token may take at the best holder, seconds; 0: any time.
    pub most_penalty: f64,
    /// Prompt tokens a second that the time is estimated from; 0: by the fitted rates.
    pub prefill_rate: f64,
}

/// A scorer with its weight and its name in explanations.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedScorer {
    /// As the plugin is called.
    pub name: String,
    /// What its score is multiplied by, 0 or more.
    pub weight: f64,
    /// What it computes, 0..=1.
    pub scorer: Scorer,
}

/// What a scorer computes, 0..=1.
#[derive(Clone, Debug, PartialEq)]
pub enum Scorer {
    /// `length_share * min(1, matched / length_scale)^2 + (1 - length_share) * matched / prompt`.
    Prefix {
        /// 0..=1.
        length_share: f64,
        /// Tokens, above 0.
        length_scale: f64,
    },
    /// 1 for the least of the candidates, 0 for the most.
    Least(Metric),
    /// 1 minus the metric.
    Complement(Metric),
    /// 1 up to the threshold, then `most_busy * (1 - share of the most)`.
    ActiveRequests {
        /// Requests in flight.
        idle_threshold: u32,
        /// 0..=1.
        most_busy: f64,
    },
    /// `0.5 * (1 - min(waiting, threshold) / threshold)`.
    LoadAware {
        /// Requests, at least 1.
        threshold: u32,
    },
    /// `1 - min(1, tokens in flight / threshold)`.
    TokenLoad {
        /// Tokens, above 0.
        threshold: f64,
    },
    /// Where the adapter is loaded, or has room.
    AdapterAffinity,
    /// Cold requests go where one went longest ago.
    NoHitLru,
    /// By ranges of context lengths.
    ContextLength {
        /// Where the ranges are.
        label: String,
    },
    /// By predicted headroom to the service levels.
    Latency(LatencyScore),
    /// By an attribute.
    Attribute {
        /// Number of the attribute in the live rows.
        attribute: u32,
        /// Is more better?
        higher_is_better: bool,
        /// From here to there; `None`: from the least to the most of the candidates.
        range: Option<(f64, f64)>,
    },
    /// 1 for who has the session.
    Session,
}

/// How headroom is weighed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyScore {
    /// 0 or more.
    pub ttft_weight: f64,
    /// 0 or more; not both are 0.
    pub tpot_weight: f64,
    /// The most headroom first; otherwise the least, which packs.
    pub most: bool,
}

impl Profile {
    /// Does any part of it look at which cold request went where?
    #[must_use]
    pub fn remembers_cold(&self) -> bool {
        self.scorers.iter().any(|scorer| scorer.scorer == Scorer::NoHitLru)
    }

    /// Is a session's endpoint weighed, rather than final?
    #[must_use]
    pub fn weighs_sessions(&self) -> bool {
        self.scorers.iter().any(|scorer| scorer.scorer == Scorer::Session)
    }
}
