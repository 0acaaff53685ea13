//! What every front door may use.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use keyrack::{KeyId, OrganizationId, Verifier};

use crate::clock::Clock;
use crate::limits::{Limiter, Limits};
use crate::listing::Cursors;
use crate::random::Random;
use crate::replies::Replies;
use crate::root_key::RootKey;
use crate::store::Store;
use crate::turns::Turns;
use crate::usage::Usage;

/// So many lists of one organization, or of the operator, are read at a time: they may be long to search, and the connections that read them
/// are few.
const LISTS_AT_A_TIME: usize = 2;
/// So many followers with one key are told everything at a time: each takes a thread for as long as it takes to read that.
const SNAPSHOTS_AT_A_TIME: usize = 16;

/// The parts of a running installation.
pub struct App {
    /// What is kept.
    pub store: Arc<Store>,
    /// Who may pass.
    pub verifier: Arc<Verifier>,
    /// What replies are found and sealed with.
    pub replies: Replies,
    /// What cursors are signed with.
    pub cursors: Cursors,
    /// Requests with an `Idempotency-Key` that are under way, by what they are found by.
    pub under_way: Mutex<HashSet<[u8; 32]>>,
    /// Whose lists are being read.
    pub list_turns: Turns<Option<OrganizationId>>,
    /// Who is told everything there is.
    pub snapshot_turns: Turns<KeyId>,
    /// How many changes were refused since the process started; each has its line in the log.
    pub refused_changes: AtomicU64,
    /// How often keys and addresses have called.
    pub limiter: Limiter,
    /// What keys are used for.
    pub usage: Arc<Usage>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where random bytes come from.
    pub random: Arc<dyn Random>,
    /// What the `type` of a problem begins with.
    pub problem_types: String,
}

impl App {
    /// Puts the parts together.
    pub fn new(
        store: Arc<Store>,
        verifier: Arc<Verifier>,
        root_key: &RootKey,
        limits: Limits,
        problem_types: String,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let usage = Usage::new(Arc::clone(&store), Arc::clone(&verifier), Arc::clone(&clock), Arc::clone(&random));
        Self {
            store,
            verifier,
            replies: Replies::new(root_key),
            cursors: Cursors::new(root_key.derive("keyrack cursor v1")),
            under_way: Mutex::default(),
            list_turns: Turns::new(LISTS_AT_A_TIME),
            snapshot_turns: Turns::new(SNAPSHOTS_AT_A_TIME),
            refused_changes: AtomicU64::new(0),
            limiter: Limiter::new(limits),
            usage: Arc::new(usage),
            clock,
            random,
            problem_types,
        }
    }
}
