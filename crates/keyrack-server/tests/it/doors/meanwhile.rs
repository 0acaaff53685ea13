//! Verifications while somebody writes: they wait for nobody.

use std::sync::Arc;

use keyrack::ProjectId;
use keyrack_server::actor::Actor;
use keyrack_server::keys::revoke;
use keyrack_server::place::Place;
use keyrack_server::store::{By, Need, StoreError};
use serde_json::json;

use super::Opened;

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_does_not_wait_for_a_change_that_is_in_the_middle_of_its_transaction() {
    let doors = Arc::new(Opened::new().await);
    let (id, dying) = doors.key(json!({"name": "dying"})).await;
    let (_, living) = doors.key(json!({"name": "living"})).await;
    let said = |key: &str| {
        let batch = doors.post("/v1/verify/batch", &json!({"requests": [{"key": key}]}));
        let codes = [doors.verify(&json!({"key": key})).json(), batch.json()["results"][0].clone()];
        (doors.nginx(key, "GET", "/x").status, codes.map(|answer| answer["code"].as_str().unwrap().to_owned()))
    };
    let (valid, not_found) = ((200, ["VALID"; 2].map(str::to_owned)), (401, ["NOT_FOUND"; 2].map(str::to_owned)));

    let by = By { actor: Actor::HOST, request_id: "test".to_owned() };
    loop {
        // The turn to write, and the lock of the database with a row that is not committed.
        let mut writing = doors.app.app.store.begin(Need::Revocation).await.unwrap();
        if revoke(&mut writing, Place::Project(ProjectId(1)), id, &by).await.is_err() {
            writing.abandon().await.unwrap();
            continue;
        }
        let other = tokio::spawn({
            let doors = Arc::clone(&doors);
            async move { doors.app.call(("POST", "/api/client/keys"), Some(json!({"name": "other"}))).await.status }
        });
        for _ in 0..20 {
            assert_eq!(said(&living), valid);
            assert_eq!(said(&dying), valid, "what is not committed is not in force");
        }
        assert!(!other.is_finished(), "another change waits for its turn all the while");

        let committed = writing.commit().await;
        assert_eq!(other.await.unwrap(), 200);
        match committed {
            Ok(_) => break,
            // A statement failed that is made to fail now and then.
            Err(StoreError::Conflict) => assert_eq!(said(&dying), valid),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(said(&dying), not_found);
    assert_eq!(said(&living), valid);
}
