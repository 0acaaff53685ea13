//! The world of the simulation: the database, the messages under way, and what goes wrong.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::super::{Beat, HEARTBEAT, lease_of, lease_of_follower, silent_for_too_long};
use super::process::{KEYS, Process};
use crate::clock::Uptime;

const SERVERS: usize = 3;
const FOLLOWERS: usize = 2;
const SECOND: u64 = 1_000_000;
/// After this a process gives up waiting for an answer, and the database ends what nobody goes on with.
const PATIENCE: u64 = SECOND;
const DATABASE_PATIENCE: u64 = 5 * SECOND;
const LOOK_AGAIN: u64 = SECOND / 10;

/// What happens to a process, most of it an answer.
enum Happening {
    Begins,
    LogRead { began: Uptime, turn: u64, log: usize },
    RowWritten { began: Uptime, turn: u64, was_listed: bool, list: Vec<Beat> },
    Committed { began: Uptime, turn: u64, was_listed: bool, list: Vec<Beat> },
    Late { turn: u64 },
    Revokes,
    Revoked { seq: usize },
    Looks { seq: usize, since: Uptime },
    Sees { seq: usize, since: Uptime, list: Vec<Beat> },
    Asked(Question),
    Heard { question: Question, was_listed: bool },
    Told { began: Uptime, turn: u64, log: usize, lease: Option<keyrack::feed::Lease> },
}

/// What a follower asks a server.
struct Question {
    follower: usize,
    life: u64,
    began: Uptime,
    turn: u64,
    known: usize,
    beat: Beat,
}

/// What happens in the database.
enum Statement {
    ReadLog { began: Uptime, turn: u64 },
    WriteRow { began: Uptime, turn: u64, beat: Beat },
    Commit { began: Uptime, turn: u64, was_listed: bool, list: Vec<Beat>, beat: Beat },
    GiveUp { id: String, turn: u64 },
    StrikeOff { id: String, beats: i64 },
    Leave { id: String },
    Revoke { key: usize },
    List { seq: usize, since: Uptime },
    Hear { question: Question },
}

/// A process in one of its lives.
type Whose = (usize, u64);

enum Event {
    Process(Whose, Happening),
    Database(Whose, Statement),
    Fault,
}

#[derive(Default)]
struct Database {
    /// The keys in the order in which they died.
    log: Vec<usize>,
    rows: BTreeMap<String, Beat>,
    /// Rows that an open transaction has written, and in which turn of their process.
    locked: BTreeMap<String, u64>,
}

impl Database {
    fn beat(&mut self, beat: &Beat) -> bool {
        let was_listed = self.rows.contains_key(&beat.id);
        let row = self.rows.entry(beat.id.clone()).or_insert_with(|| beat.clone());
        let (is_later, is_longer) = (row.beats < beat.beats, row.stale_ms < beat.stale_ms);
        if is_later {
            (row.seq, row.beats, row.stale_ms) = (beat.seq, beat.beats, row.stale_ms.max(beat.stale_ms));
        }
        was_listed && is_later && !is_longer
    }

    fn list(&self) -> Vec<Beat> {
        self.rows.values().cloned().collect()
    }
}

pub(super) struct World {
    seed: u64,
    random: u64,
    now: u64,
    coming: BinaryHeap<Reverse<(u64, usize)>>,
    events: Vec<Option<Event>>,
    database: Database,
    processes: Vec<Process>,
    next_key: usize,
    is_faulty: bool,
    /// Keys that were said to be dead everywhere.
    proven: Vec<usize>,
    /// Who waits for which position to be everywhere.
    waiting: Vec<(Whose, usize)>,
    pub(super) proofs: u64,
    pub(super) expired: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut world = Self {
            seed,
            random: seed,
            now: 0,
            coming: BinaryHeap::new(),
            events: Vec::new(),
            database: Database::default(),
            processes: Vec::new(),
            next_key: 0,
            is_faulty: true,
            proven: Vec::new(),
            waiting: Vec::new(),
            proofs: 0,
            expired: 0,
        };
        for number in 0..SERVERS + FOLLOWERS {
            let server = usize::try_from(world.below(SERVERS as u64)).unwrap();
            let stale_limit = Duration::from_secs(2 + world.below(3) * 2);
            let drift = i64::try_from(world.below(40_000)).unwrap() - 20_000;
            let follows = (number >= SERVERS).then_some(server);
            world.processes.push(Process::new(number as u64 + 1, follows, stale_limit, drift));
            world.begin(number);
        }
        world.push(SECOND, Event::Fault);
        world
    }

    /// A number below another (splitmix64).
    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }

    fn push(&mut self, after: u64, event: Event) {
        self.coming.push(Reverse((self.now + after, self.events.len())));
        self.events.push(Some(event));
    }

    fn begin(&mut self, number: usize) {
        self.at(number, 0, Happening::Begins);
        if self.processes[number].follows.is_none() {
            self.at(number, SECOND, Happening::Revokes);
        }
    }

    fn whose(&self, number: usize) -> Whose {
        (number, self.processes[number].life)
    }

    fn at(&mut self, number: usize, after: u64, happening: Happening) {
        let whose = self.whose(number);
        self.push(after, Event::Process(whose, happening));
    }

    /// How long a message is under way; `None` if it is lost.
    fn way(&mut self) -> Option<u64> {
        match self.below(1_000) {
            0..10 if self.is_faulty => None,
            10..30 if self.is_faulty => Some(self.below(4 * SECOND)),
            _ => Some(100 + self.below(3_000)),
        }
    }

    /// Sends a statement to the database, unless the process is cut off from it.
    fn ask(&mut self, number: usize, statement: Statement) {
        let whose = self.whose(number);
        if self.processes[number].cut_until <= self.now
            && let Some(way) = self.way()
        {
            self.push(way, Event::Database(whose, statement));
        }
    }

    /// Sends an answer to a process.
    fn answer(&mut self, whose: Whose, happening: Happening) {
        if self.processes[whose.0].cut_until <= self.now
            && let Some(way) = self.way()
        {
            self.push(way, Event::Process(whose, happening));
        }
    }

    pub(super) fn heal(&mut self) {
        self.is_faulty = false;
        for number in 0..self.processes.len() {
            let process = &mut self.processes[number];
            (process.paused_until, process.cut_until) = (0, 0);
            if !process.is_up {
                self.restart(number);
            }
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + u64::try_from(time.as_micros()).unwrap();
        while self.coming.peek().is_some_and(|Reverse((at, _))| *at <= end) {
            let Some(Reverse((at, event))) = self.coming.pop() else { break };
            self.now = at;
            match self.events[event].take().unwrap() {
                Event::Fault if self.is_faulty => self.go_wrong(),
                Event::Fault => {}
                Event::Database(whose, statement) => self.execute(whose, statement),
                Event::Process(whose, happening) => {
                    let process = &self.processes[whose.0];
                    if whose != self.whose(whose.0) || !process.is_up {
                        continue;
                    }
                    // A process that was stopped finds everything that came meanwhile when it goes on.
                    match process.paused_until.checked_sub(at) {
                        Some(wait @ 1..) => self.push(wait, Event::Process(whose, happening)),
                        Some(0) | None => self.happen(whose.0, happening),
                    }
                }
            }
        }
        self.now = end;
    }

    fn go_wrong(&mut self) {
        let number = usize::try_from(self.below((SERVERS + FOLLOWERS) as u64)).unwrap();
        let until = self.now + self.below(8 * SECOND);
        let process = &mut self.processes[number];
        let is_up = process.is_up;
        match self.below(4) {
            0 => self.processes[number].paused_until = until,
            1 | 2 => self.processes[number].cut_until = until,
            _ if is_up => self.processes[number].is_up = false,
            _ => self.restart(number),
        }
        let next = self.below(2 * SECOND);
        self.push(next, Event::Fault);
    }

    /// A new process takes the place of one that has died, and says that nobody need wait for that. It loads what is committed.
    fn restart(&mut self, number: usize) {
        let former = self.processes[number].members.id.clone();
        self.processes[number].begin(&self.database.log);
        self.ask(number, Statement::Leave { id: former });
        self.begin(number);
    }

    fn execute(&mut self, whose: Whose, statement: Statement) {
        let database = &mut self.database;
        match statement {
            Statement::ReadLog { began, turn } => {
                let log = database.log.len();
                self.answer(whose, Happening::LogRead { began, turn, log });
            }
            Statement::WriteRow { began, turn, beat } => {
                let (was_listed, list) = (database.rows.contains_key(&beat.id), database.list());
                database.locked.insert(beat.id.clone(), turn);
                self.push(DATABASE_PATIENCE, Event::Database(whose, Statement::GiveUp { id: beat.id, turn }));
                self.answer(whose, Happening::RowWritten { began, turn, was_listed, list });
            }
            Statement::Commit { began, turn, was_listed, list, beat } => {
                // Unless it was ended meanwhile.
                if database.locked.get(&beat.id) == Some(&turn) {
                    database.locked.remove(&beat.id);
                    database.beat(&beat);
                    self.answer(whose, Happening::Committed { began, turn, was_listed, list });
                }
            }
            Statement::GiveUp { id, turn } => {
                if database.locked.get(&id) == Some(&turn) {
                    database.locked.remove(&id);
                }
            }
            Statement::StrikeOff { id, beats } => {
                let is_as_seen = database.rows.get(&id).is_some_and(|row| row.beats == beats);
                if is_as_seen && !database.locked.contains_key(&id) {
                    database.rows.remove(&id);
                }
            }
            Statement::Leave { id } => {
                database.locked.remove(&id);
                database.rows.remove(&id);
            }
            Statement::Revoke { key } => {
                database.log.push(key);
                let seq = database.log.len();
                self.answer(whose, Happening::Revoked { seq });
            }
            Statement::List { seq, since } => {
                let list = database.list();
                self.answer(whose, Happening::Sees { seq, since, list });
            }
            Statement::Hear { question } => {
                let was_listed = database.beat(&question.beat);
                self.answer(whose, Happening::Heard { question, was_listed });
            }
        }
    }

    fn happen(&mut self, number: usize, happening: Happening) {
        let now = self.now;
        let process = &mut self.processes[number];
        match happening {
            Happening::Begins => self.begin_turn(number),
            Happening::Late { turn } if turn == process.turn => self.begin_turn(number),
            Happening::LogRead { began, turn, log } if turn == process.turn => {
                process.apply(&self.database.log[..log]);
                let beat = process.beat();
                self.ask(number, Statement::WriteRow { began, turn, beat });
            }
            Happening::RowWritten { began, turn, was_listed, list } if turn == process.turn => {
                let beat = process.beat();
                self.ask(number, Statement::Commit { began, turn, was_listed, list, beat });
            }
            Happening::Committed { began, turn, was_listed, list } if turn == process.turn => {
                if let Some(lease) = lease_of(began, was_listed, process.stale_limit) {
                    process.index.renew(lease);
                }
                let nodes = process.members.judge(list, process.uptime(now));
                for Beat { id, beats, .. } in silent_for_too_long(nodes) {
                    self.ask(number, Statement::StrikeOff { id, beats });
                }
                self.end_turn(number);
            }
            Happening::Asked(question) => self.hear(number, question),
            Happening::Heard { question, was_listed } => self.tell(number, &question, was_listed),
            Happening::Told { began, turn, log, lease } if turn == process.turn => {
                process.apply(&self.database.log[..log]);
                if let Some(lease) = lease {
                    process.index.renew(lease.since(Duration::from_micros(began.0), process.stale_limit));
                }
                self.end_turn(number);
            }
            Happening::Revokes => {
                if self.next_key < KEYS && self.is_faulty {
                    self.ask(number, Statement::Revoke { key: self.next_key });
                    self.next_key += 1;
                }
                let pause = SECOND / 5 + self.below(SECOND);
                self.at(number, pause, Happening::Revokes);
            }
            Happening::Revoked { seq } => {
                process.apply(&self.database.log[..seq]);
                let since = process.uptime(now);
                self.waiting.push((self.whose(number), seq));
                self.look(number, seq, since);
            }
            Happening::Looks { seq, since } => self.look(number, seq, since),
            Happening::Sees { seq, since, list } => self.see(number, (seq, since), list),
            // Answers to what was given up.
            Happening::Late { .. }
            | Happening::LogRead { .. }
            | Happening::RowWritten { .. }
            | Happening::Committed { .. }
            | Happening::Told { .. } => {}
        }
    }

    /// A heartbeat, or a follower's question.
    fn begin_turn(&mut self, number: usize) {
        let now = self.now;
        let process = &mut self.processes[number];
        process.turn += 1;
        process.members.begin_beat();
        let (began, turn, life, known) = (process.uptime(now), process.turn, process.life, process.seq);
        let beat = process.beat();
        match process.follows {
            None => self.ask(number, Statement::ReadLog { began, turn }),
            Some(_) => {
                // Behind a proxy it may be another one every time.
                let server = usize::try_from(self.below(SERVERS as u64)).unwrap();
                if let Some(way) = self.way() {
                    let question = Question { follower: number, life, began, turn, known, beat };
                    self.at(server, way, Happening::Asked(question));
                }
            }
        }
        self.at(number, PATIENCE, Happening::Late { turn });
    }

    fn end_turn(&mut self, number: usize) {
        self.processes[number].turn += 1;
        self.check(number);
        self.at(number, u64::try_from(HEARTBEAT.as_micros()).unwrap(), Happening::Begins);
    }

    /// A server hears from a follower, and writes that down.
    fn hear(&mut self, number: usize, mut question: Question) {
        let stale_limit = self.stale_limit_of(question.follower, number);
        question.beat.stale_ms = i64::try_from(stale_limit.as_millis()).unwrap();
        self.ask(number, Statement::Hear { question });
    }

    fn stale_limit_of(&self, follower: usize, server: usize) -> Duration {
        self.processes[follower].stale_limit.min(self.processes[server].stale_limit)
    }

    /// That is committed: the server tells all that it knows.
    fn tell(&mut self, number: usize, question: &Question, was_listed: bool) {
        let &Question { follower, life, began, turn, known, .. } = question;
        let server = &self.processes[number];
        let (own, log) = (server.index.lease(), server.seq.max(known));
        let stale_limit = self.stale_limit_of(follower, number);
        let lease = lease_of_follower(own, server.uptime(self.now), stale_limit).filter(|_| was_listed);
        self.answer((follower, life), Happening::Told { began, turn, log, lease });
    }

    /// Somebody who waits for a change to be everywhere asks for the list, again and again.
    fn look(&mut self, number: usize, seq: usize, since: Uptime) {
        if self.waiting.contains(&(self.whose(number), seq)) {
            self.ask(number, Statement::List { seq, since });
            self.at(number, LOOK_AGAIN, Happening::Looks { seq, since });
        }
    }

    fn see(&mut self, number: usize, (seq, since): (usize, Uptime), list: Vec<Beat>) {
        let process = &self.processes[number];
        let uptime = process.uptime(self.now);
        let waited = Duration::from_micros(uptime.microseconds_since(since));
        let nodes = process.members.judge(list, uptime);
        let position = i64::try_from(seq).unwrap();
        if !nodes.iter().all(|node| node.is_done_with(position, waited)) {
            return;
        }
        let who = (self.whose(number), seq);
        let Some(at) = self.waiting.iter().position(|waiting| *waiting == who) else { return };
        self.waiting.swap_remove(at);
        self.proofs += 1;
        self.expired += u64::from(nodes.iter().any(|node| !node.is_own && node.beat.seq < position));
        self.proven.push(self.database.log[seq - 1]);
        (0..self.processes.len()).for_each(|number| self.check(number));
    }

    /// Nothing that was proven to be dead passes at a process, were it asked now. Time alone makes no process answer more, so it is
    /// enough to look when something was proven, and when a process has a new lease.
    fn check(&self, number: usize) {
        for key in &self.proven {
            assert!(
                !self.processes[number].lets_pass(*key, self.now),
                "seed {}, after {} µs: process {number} lets key {key} pass, which was said to be dead everywhere",
                self.seed,
                self.now
            );
        }
    }

    /// Everything has gone right for a while.
    pub(super) fn check_is_well(&self) {
        let seed = self.seed;
        for (number, process) in self.processes.iter().enumerate() {
            assert!(process.is_fresh(self.now), "seed {seed}: process {number} is not fresh");
            assert_eq!(process.seq, self.database.log.len(), "seed {seed}: process {number} lags");
            let is_listed = self.database.rows.contains_key(&process.members.id);
            // A follower is called by its server as it calls itself.
            assert!(is_listed, "seed {seed}: process {number} is not on the list");
        }
        assert_eq!(self.database.rows.len(), self.processes.len(), "seed {seed}: who is gone is still listed");
        let waiting = self.waiting.iter().filter(|((number, life), _)| self.processes[*number].life == *life);
        assert_eq!(waiting.count(), 0, "seed {seed}: somebody waits for ever");
    }
}
