//! Every secret leaves by one door only. After a full journey at the finest log level, nothing that was logged, kept,
//! exported or replied elsewhere holds as much as 16 characters of any key, in any usual encoding.

mod journey;
mod stray;
mod sweep;
mod tenancy;
mod wire;

use keyrack::{ApiKey, KeyKind};
use keyrack_server::random::{self, OsRandom};

use self::journey::{Journey, Seen};
use self::sweep::{ENCODINGS, Sweep, WINDOW};

#[test]
fn no_secret_is_seen_elsewhere_with_text_logs() {
    sweep_a_journey("text");
}

#[test]
fn no_secret_is_seen_elsewhere_with_json_logs() {
    sweep_a_journey("json");
}

fn sweep_a_journey(log_format: &'static str) {
    let Journey { secrets, seen, .. } = &Journey::run(log_format);
    let sweep = Sweep::new(secrets);
    let mut leaks = Vec::new();
    for Seen { what, bytes, may_hold } in seen {
        let hits = sweep.hits(bytes);
        // The sweep must see each secret where it belongs, or its silence elsewhere says nothing.
        for secret in may_hold {
            assert!(hits.iter().any(|hit| hit.secret == *secret), "{what} does not hold secret {secret}");
        }
        for hit in hits.iter().filter(|hit| !may_hold.contains(&hit.secret)) {
            let around = bytes[hit.at.saturating_sub(60)..].iter().take(160).copied().collect::<Vec<_>>();
            leaks.push(format!(
                "{what}: secret {} as {}: {}",
                hit.secret,
                hit.encoding,
                String::from_utf8_lossy(&around)
            ));
        }
    }
    let bytes: usize = seen.iter().map(|seen| seen.bytes.len()).sum();
    let (places, windows) = (seen.len(), sweep.windows());
    println!(
        "canary ({log_format}): {} secrets, {windows} windows, {places} places, {bytes} bytes swept; hits {}",
        secrets.len(),
        leaks.len()
    );
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

#[test]
fn the_sweep_finds_what_was_planted() {
    let secret = |kind| ApiKey::generate(kind, &random::bytes(&OsRandom)).expose().as_bytes().to_vec();
    let secrets: Vec<_> = KeyKind::ALL.map(secret).into();
    let sweep = Sweep::new(&secrets);
    let mut noise = vec![0; 4096];
    random::Random::fill(&OsRandom, &mut noise);
    assert!(sweep.hits(&noise).is_empty());
    for (number, secret) in secrets.iter().enumerate() {
        for from in 0..=secret.len() - WINDOW {
            let part = &secret[from..from + WINDOW];
            for (encoding, encode) in ENCODINGS {
                // What stands before it decides how base64 groups its bytes.
                for before in ["", "x", "xy"] {
                    let planted = [&noise, &encode(&[before.as_bytes(), part, b"z"].concat())[..], &noise].concat();
                    let found = sweep.hits(&planted);
                    assert!(
                        found.iter().any(|hit| hit.secret == number),
                        "{encoding} of the {WINDOW} bytes from {from} behind {before:?}: {found:?}"
                    );
                }
            }
            assert!(sweep.hits(&part[1..]).is_empty(), "fewer than {WINDOW} characters are no hit");
        }
    }
}
