//! What a scene's tables are in a shell where endpoints have these addresses: the segment that a gateway is sent.

use std::collections::BTreeMap;

use prost::Message as _;
use shared::identity::EndpointId;
use shared::prefix::{ChainRoot, chain};
use shared::wire;

use crate::script::{Message, Pool, Scene, Script};

/// Bytes of a prefix chunk.
const CHUNK_BYTES: u32 = 16;
/// What tokens cover of a chunk.
const CHUNK_TOKENS: u32 = 4;

/// A scene in a shell.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Addresses of endpoints by name.
    pub addresses: BTreeMap<String, String>,
    /// The table, encoded; `None`: none has come.
    pub segment: Option<Vec<u8>>,
    /// The pool that the shell routes to; `None`: by model.
    pub pool: Option<String>,
    refuses: Vec<String>,
}

impl Stage {
    /// Endpoints are at ports of 10.0.0.1, where no scene goes.
    #[must_use]
    pub fn nowhere(script: &Script, scene: &Scene) -> Self {
        let names = names(scene);
        Self::new(script, scene, (1..).zip(names).map(|(port, name)| (name, format!("10.0.0.1:{port}"))).collect())
    }

    /// Endpoints are at these addresses.
    #[must_use]
    pub fn new(script: &Script, scene: &Scene, addresses: BTreeMap<String, String>) -> Self {
        let pools =
            scene.pools.as_ref().map(|pools| pools.iter().map(|pool| change(script, pool, &addresses)).collect());
        let segment =
            pools.map(|pools| wire::Segment { epoch: 1, version: 1, part: 1, parts: 1, pools }.encode_to_vec());
        let pool = match scene.pools.as_deref() {
            Some([only]) => Some(only.name.clone()),
            _ => None,
        };
        Self { addresses, segment, pool, refuses: scene.refuses.clone() }
    }

    /// The first of `destination` that takes connections: its address.
    #[must_use]
    pub fn serves<'a>(&self, destination: &'a str) -> Option<&'a str> {
        let refuses =
            |address: &str| self.refuses.iter().any(|name| self.addresses.get(name).is_some_and(|at| at == address));
        destination.split(',').find(|address| !refuses(address))
    }

    /// `text` with names in the place of addresses.
    #[must_use]
    pub fn named(&self, text: &str) -> String {
        // Longest first: an address may begin with another.
        let mut known: Vec<(&String, &String)> = self.addresses.iter().collect();
        known.sort_by_key(|(_, address)| std::cmp::Reverse(address.len()));
        known.into_iter().fold(text.to_owned(), |text, (name, address)| {
            text.replace(&token(address), &format!("token of {name}")).replace(address.as_str(), name)
        })
    }

    /// `message` with sessions' tokens as clients send them.
    #[must_use]
    pub fn with_tokens(&self, mut message: Message) -> Message {
        for (_, value) in &mut message.headers {
            let of =
                |(name, address): (&String, &String)| (*value == format!("token of {name}")).then(|| token(address));
            if let Some(token) = self.addresses.iter().find_map(of) {
                *value = token;
            }
        }
        message
    }
}

/// What clients are given to come back to an endpoint.
fn token(address: &str) -> String {
    format!("{:016x}", EndpointId::of(address).0)
}

/// All endpoints of a scene.
#[must_use]
pub fn names(scene: &Scene) -> Vec<String> {
    scene.pools.iter().flatten().flat_map(|pool| pool.endpoints.iter().cloned()).collect()
}

fn change(script: &Script, pool: &Pool, addresses: &BTreeMap<String, String>) -> wire::PoolChange {
    let endpoint = |(slot, name): (u32, &String)| {
        let address = addresses.get(name).expect("every endpoint has an address").clone();
        wire::Endpoint { slot, address, ..wire::Endpoint::default() }
    };
    let models = pool.models.iter().map(|(name, base)| {
        let base = base.clone().unwrap_or_default();
        wire::Model { name: name.clone(), base }
    });
    let model = pool.models.keys().next().cloned().unwrap_or_default();
    let template = pool.template.iter().map(|template| wire::Rendering {
        model: model.clone(),
        template: template.clone(),
        ..wire::Rendering::default()
    });
    let residency = pool.holds.iter().map(|(name, text)| {
        let slot = pool.endpoints.iter().position(|endpoint| endpoint == name).expect("who holds is in the pool");
        held(&model, u32::try_from(slot).unwrap(), &script.expand(text))
    });
    wire::PoolChange {
        name: pool.name.clone(),
        settings: Some(settings(pool)),
        models: Some(wire::ModelList { models: models.collect() }),
        endpoints: (0..).zip(&pool.endpoints).map(endpoint).collect(),
        renderings: template.collect(),
        vocabularies: pool.bytes_are_tokens.then(|| bytes(&model)).into_iter().collect(),
        residency: residency.collect(),
        ..wire::PoolChange::default()
    }
}

fn settings(pool: &Pool) -> wire::PoolSettings {
    let rewrites = pool.rewrites.iter().map(|(from, to)| wire::ModelRewrite {
        models: Some(from.clone()).filter(|name| name != "*").into_iter().collect(),
        targets: vec![wire::RewriteTarget { model: to.clone(), weight: 1 }],
    });
    wire::PoolSettings {
        chunk_bytes: CHUNK_BYTES,
        slo_ttft_seconds: 2.0,
        slo_tpot_seconds: 0.05,
        choices: 3,
        explain: true,
        max_body_bytes: pool.max_body_bytes.unwrap_or(1 << 20),
        session_header: pool.session_header.clone(),
        stale_after_ms: 2000,
        rewrites: rewrites.collect(),
        ..wire::PoolSettings::default()
    }
}

/// The endpoint at `slot` holds `text` of `model`, on its GPU.
fn held(model: &str, slot: u32, text: &str) -> wire::ResidencyGroup {
    let mut keys = Vec::new();
    let chunk = usize::try_from(CHUNK_BYTES).unwrap();
    chain(ChainRoot::new(model, None, None), chunk, [text.as_bytes()], &mut keys);
    let tokens = (1..).map(|chunk| chunk * CHUNK_TOKENS).take(keys.len()).collect();
    wire::ResidencyGroup { holders: vec![slot * 4], keys, tokens }
}

fn bytes(model: &str) -> wire::VocabularyPiece {
    let text: Vec<u8> = (0..=255).collect();
    wire::VocabularyPiece { model: model.to_owned(), tokens: 256, bytes: 256, first: 0, lengths: vec![1; 256], text }
}
