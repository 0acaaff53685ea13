//! What publishable keys would gain by the policy in force if they were widened. Nothing of it happens by itself.

use keyrack::PolicySet;
use keyrack::policy::{Policies, public_gain};

use crate::store::PublicKeys;

/// Most keys whose numbers are listed for each version.
pub const MOST_IDS: usize = 100;

/// What the publishable keys of one version would gain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gain {
    /// The keys, and the version that their reach is frozen at.
    pub keys: PublicKeys,
    /// One line for each rule: `default: POST /events`.
    pub routes: Vec<String>,
}

/// What the keys of each version would gain by `new`; those that would gain nothing are left out.
pub fn gains(keys: Vec<PublicKeys>, known: &PolicySet, new: &Policies) -> Vec<Gain> {
    let closed = Policies::builtin();
    let gain = keys.into_iter().map(|keys| {
        // Keys that are frozen at what nobody knows pass nowhere.
        let old = known.of_version(keys.version).unwrap_or(&closed);
        Gain { routes: public_gain(old, new), keys }
    });
    gain.filter(|gain| !gain.routes.is_empty()).collect()
}
