//! Memberships.

use expect_test::expect;
use serde_json::json;

use super::{Victim, put_back};
use crate::server::Server;

#[test]
fn a_membership_is_not_had_by_writing_to_the_database() {
    let victim = Victim::new();
    victim.tampered(
        "UPDATE members SET role = 4 WHERE id = 2",
        &expect![[r#"
        the store is damaged: member 2 does not authenticate. Restore it from a backup
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: owners 200 401 200, admins 200 401 200, archived 401 404, members 404 500 404, lists [] [] []
        restarted: owners 200 401 200, admins 200 401 200, archived 401 404, members 404 500 404, lists [] [] []
    "#]],
    );
    victim.tampered(
        "UPDATE members SET taken_at = NULL WHERE id = 1",
        &expect![[r#"
        the store is damaged: member 1 does not authenticate. Restore it from a backup
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: owners 200 401 200, admins 200 401 200, archived 401 404, members 500 403 404, lists [] [support] []
        restarted: owners 200 401 200, admins 200 401 200, archived 401 404, members 500 403 404, lists [] [support] []
    "#]],
    );
    victim.tampered(
        &put_back("members", 1),
        &expect![[r#"
            member 1 is kept at version 1, the log ends with 2: an old row was put back
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
            running: unharmed
            restarted: unharmed
        "#]],
    );
    victim.tampered(
        &put_back("members", 2),
        &expect![[r#"
        member 2 is kept at version 1, the log ends with 2: an old row was put back
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: owners 200 401 200, admins 200 401 200, archived 401 404, members 404 500 404, lists [] [] []
        restarted: owners 200 401 200, admins 200 401 200, archived 401 404, members 404 404 404, lists [] [] []
    "#]],
    );
}

#[test]
fn a_membership_is_neither_made_nor_moved_in_the_database() {
    let victim = Victim::new();
    let never = victim.members[2].0;
    let inserted = format!(
        "CREATE TABLE made AS SELECT * FROM members WHERE id = 2; UPDATE made SET id = 3, key_id = {never}; \
         INSERT INTO members SELECT * FROM made"
    );
    victim.tampered(
        &inserted,
        &expect![[r#"
        the store is damaged: member 3 does not authenticate. Restore it from a backup
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: owners 200 401 200, admins 200 401 200, archived 401 404, members 404 403 500, lists [] [support] []
        restarted: owners 200 401 200, admins 200 401 200, archived 401 404, members 404 403 500, lists [] [support] []
    "#]],
    );
    let moved = format!("UPDATE members SET key_id = {never} WHERE id = 2");
    victim.tampered(
        &moved,
        &expect![[r#"
        the store is damaged: member 2 does not authenticate. Restore it from a backup
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: owners 200 401 200, admins 200 401 200, archived 401 404, members 404 404 500, lists [] [] []
        restarted: owners 200 401 200, admins 200 401 200, archived 401 404, members 404 404 500, lists [] [] []
    "#]],
    );
    victim.tampered(
        "UPDATE members SET project_id = 3 WHERE id = 2",
        &expect![[r#"
        the store is damaged: member 2 does not authenticate. Restore it from a backup
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: owners 200 401 200, admins 200 401 200, archived 401 404, members 404 404 404, lists [] [] []
        restarted: owners 200 401 200, admins 200 401 200, archived 401 404, members 404 404 404, lists [] [] []
    "#]],
    );
    victim.tampered(
        "DELETE FROM members WHERE id = 2",
        &expect![[r#"
        member 2 is in the log, but its row is gone
        the live rows do not add up to the sum that was authenticated
        keyrack: the audit log and the store do not agree: 2 fault(s), listed above
        running: owners 200 401 200, admins 200 401 200, archived 401 404, members 404 404 404, lists [] [] []
        restarted: owners 200 401 200, admins 200 401 200, archived 401 404, members 404 404 404, lists [] [] []
    "#]],
    );
}

/// What was taken away is not live, and a start reads what is live: it can be given again all the same.
#[test]
fn what_was_taken_before_a_restart_can_be_given_again() {
    let victim = Victim::new();
    let server = Server::start(victim.data.path());
    let path = format!("/api/admin/projects/1/members/{}", victim.members[0].0);
    assert_eq!(server.send("DELETE", &path, &victim.owners[0], None, &[]).unwrap().status, 404);
    let given = server.send("PUT", &path, &victim.owners[0], Some(&json!({"role": "editor"})), &[]).unwrap();
    assert_eq!(given.status, 200, "{}", given.text);
}
