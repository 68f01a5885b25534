//! Faults that a test or an operator scripts: which requests they strike, how often, and what happens.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::dice::Dice;
use super::requests::Endpoint;
use super::world::purpose;

/// One scripted fault. Without `times` and `share` it strikes every request until it is cleared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Only requests to this endpoint.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// Only requests with this `ManagedOrganizationId`; for `silent_organization` and `hidden_in_tree` the organization
    /// that vanishes.
    #[serde(default)]
    pub organization: Option<Uuid>,
    /// Only so many requests more.
    #[serde(default)]
    pub times: Option<u32>,
    /// Only this share of requests, 0 to 1.
    #[serde(default)]
    pub share: Option<f64>,
    pub effect: Effect,
}

impl Fault {
    /// A fault that strikes every request.
    pub fn always(effect: Effect) -> Self {
        Self { endpoint: None, organization: None, times: None, share: None, effect }
    }

    /// A fault that strikes the next requests.
    pub fn next(times: u32, effect: Effect) -> Self {
        Self { times: Some(times), ..Self::always(effect) }
    }

    /// A fault that strikes a share of the requests.
    pub fn share(share: f64, effect: Effect) -> Self {
        Self { share: Some(share), ..Self::always(effect) }
    }

    pub fn at(self, endpoint: Endpoint) -> Self {
        Self { endpoint: Some(endpoint), ..self }
    }

    pub fn of(self, organization: Uuid) -> Self {
        Self { organization: Some(organization), ..self }
    }
}

/// What happens to a request that is struck.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// An error in the portal's words.
    Status {
        status: u16,
        #[serde(default)]
        retry_after: Option<RetryAfter>,
        #[serde(default)]
        message: Option<String>,
    },
    /// The answer comes later; other faults strike as well.
    Latency { milliseconds: u64 },
    /// The connection breaks in the middle of the body.
    CutBody,
    /// `200` and half of the list, as if it were all.
    TruncatedJson,
    /// `200` and a page of HTML.
    Html,
    /// `200` and an error object in place of the list (contract section 8.1).
    ErrorObject,
    /// The connection is reset before an answer.
    Reset,
    /// The rows of the fault's organization vanish from every answer, without an error.
    SilentOrganization,
    /// The same, but only from answers to requests with the child flag.
    HiddenInTree,
    /// A request for the audits with the child flag fails (contract section 8.2: 500 for an unfit organization).
    TreeRefused,
    /// The role of the token lost the permission for the endpoint.
    NoPermission { answer: NoPermission },
    /// The token is unknown, in the dialect's words, until this is cleared.
    TokenRevoked,
    /// The whole portal is away.
    Down { reset: bool },
    /// So many rows come into the asked range while it is read.
    Drift {
        rows: u32,
        /// They claim to have been imported when they happened, so that they move the pages of any axis.
        #[serde(default)]
        backdated: bool,
    },
    /// A field of every row has another name, as with a version of the portal that drops one and adds one.
    RenamedField { field: String, name: String },
    /// So many rows of the asked range go while it is read.
    Deletion { rows: u32 },
}

/// How the portal answers for want of a permission (contract section 1.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoPermission {
    /// `200` and nothing.
    Empty,
    /// `401` and a text that names the permission.
    Denied,
}

/// The two forms of `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    Seconds(u64),
    /// A date so many seconds after the portal's now; may lie in the past.
    DateIn(i64),
}

/// The faults that stand.
#[derive(Debug, Default)]
pub struct Faults {
    standing: Vec<(u64, Fault)>,
    last: u64,
}

impl Faults {
    /// Adds a fault and answers its number.
    pub fn add(&mut self, fault: Fault) -> u64 {
        self.last += 1;
        self.standing.push((self.last, fault));
        self.last
    }

    /// The standing faults with their numbers.
    pub fn standing(&self) -> &[(u64, Fault)] {
        &self.standing
    }

    /// Ends one fault, or all of them.
    pub fn clear(&mut self, number: Option<u64>) {
        self.standing.retain(|(own, _)| number.is_some_and(|number| number != *own));
    }

    /// The effects on one request, in the order in which the faults were added.
    pub fn strike(
        &mut self,
        endpoint: Option<Endpoint>,
        organization: Option<Uuid>,
        mut dice: Dice,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (_, fault) in &mut self.standing {
            let concerns = !matches!(fault.effect, Effect::SilentOrganization | Effect::HiddenInTree)
                && (fault.endpoint.is_none() || fault.endpoint == endpoint)
                && (fault.organization.is_none() || fault.organization == organization)
                && fault.times != Some(0);
            if concerns && fault.share.is_none_or(|share| dice.chance(share)) {
                fault.times = fault.times.map(|times| times - 1);
                effects.push(fault.effect.clone());
            }
        }
        self.standing.retain(|(_, fault)| fault.times != Some(0));
        effects
    }

    /// The organizations that have vanished from an endpoint's answers; `tree`: to requests with the child flag.
    pub fn silent(&self, endpoint: Endpoint, tree: bool) -> impl Iterator<Item = Uuid> {
        let vanishes = move |effect: &Effect| {
            *effect == Effect::SilentOrganization || (tree && *effect == Effect::HiddenInTree)
        };
        self.standing
            .iter()
            .map(|(_, fault)| fault)
            .filter(move |fault| vanishes(&fault.effect))
            .filter(move |fault| fault.endpoint.is_none_or(|own| own == endpoint))
            .filter_map(|fault| fault.organization)
    }
}

/// The dice of one request's faults.
pub fn dice(seed: u64, request: u64) -> Dice {
    Dice::new(seed, purpose::FAULT, request)
}
