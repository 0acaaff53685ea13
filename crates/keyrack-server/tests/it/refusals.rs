//! Installations that cannot be used: a clear message, an exit code, and nothing changed.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use expect_test::expect;

use crate::cli::{Host, contents, create, refuses, transcript, words};
use crate::server::{KEYRACK, Server, keyrack};
use crate::tampering::sql;

#[test]
fn a_root_key_that_does_not_fit_is_refused() {
    let host = Host::new();
    let root_key = host.file("root.key");
    let right = fs::read(&root_key).unwrap();

    fs::set_permissions(&root_key, fs::Permissions::from_mode(0o604)).unwrap();
    host.refuses(
        &["serve"],
        &expect![[r#"
            exit 1
            keyrack: the root key PLACE/data/root.key can be read or written by others (mode 0604). Run: chmod 600 PLACE/data/root.key
        "#]],
    );
    fs::set_permissions(&root_key, fs::Permissions::from_mode(0o620)).unwrap();
    host.refuses(
        &["serve"],
        &expect![[r#"
            exit 1
            keyrack: the root key PLACE/data/root.key can be read or written by others (mode 0620). Run: chmod 600 PLACE/data/root.key
        "#]],
    );
    fs::set_permissions(&root_key, fs::Permissions::from_mode(0o600)).unwrap();

    fs::write(&root_key, &right[..31]).unwrap();
    host.refuses(&["serve"], &expect![[r#"
        exit 1
        keyrack: the root key PLACE/data/root.key holds 31 bytes, not 32: this is not the file Keyrack made. Put the right one back
    "#]]);
    fs::write(&root_key, [7; 32]).unwrap();
    host.refuses(
        &["serve"],
        &expect![[r#"
            exit 1
            keyrack: cannot use the store in PLACE/data: the root key does not belong to this store. Put back the one that was made with it
        "#]],
    );
    host.refuses(
        &["recover", "--operator"],
        &expect![[r#"
            exit 1
            keyrack: cannot use the store in PLACE/data: the root key does not belong to this store. Put back the one that was made with it
        "#]],
    );
    host.refuses(
        &["audit", "verify"],
        &expect![[r#"
            exit 1
            keyrack: cannot use the store in PLACE/data: the root key does not belong to this store. Put back the one that was made with it
        "#]],
    );
    fs::remove_file(&root_key).unwrap();
    host.refuses(&["serve"], &expect![[r#"
        exit 1
        keyrack: the root key PLACE/data/root.key is missing, but the store was made with one. Put the file back from where you keep it, or from another node; without it the store cannot be used
    "#]]);

    // The right one brings everything back.
    fs::write(&root_key, &right).unwrap();
    fs::set_permissions(&root_key, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(create(&Server::start(&host.data()), &words(&host.keys, "project_key")), 200);
}

#[test]
fn a_store_that_is_not_ours_is_refused() {
    let host = Host::new();
    let newer = "INSERT INTO _sqlx_migrations VALUES (9000, 'from the future', '2030-01-01', TRUE, x'00', 0)";
    sql(&host.data(), newer);
    host.refuses(&["serve"], &expect![[r#"
        exit 1
        keyrack: cannot use the store in PLACE/data: the store has schema 9000, newer than this program, which knows 1. Run the newer keyrack, or restore the backup made before the upgrade
    "#]]);
    host.refuses(&["recover", "--operator"], &expect![[r#"
        exit 1
        keyrack: cannot use the store in PLACE/data: the store has schema 9000, newer than this program, which knows 1. Run the newer keyrack, or restore the backup made before the upgrade
    "#]]);
    host.refuses(&["audit", "verify"], &expect![[r#"
        exit 1
        keyrack: cannot use the store in PLACE/data: the store has schema 9000, newer than this program, which knows 1. Run the newer keyrack, or restore the backup made before the upgrade
    "#]]);

    fs::write(host.file("keyrack.db"), "This is a letter to a friend, not a database.".repeat(100)).unwrap();
    host.refuses(&["serve"], &expect![[r#"
        exit 1
        keyrack: cannot use the store in PLACE/data: the store is damaged: error returned from database: (code: 26) file is not a database. Restore it from a backup
    "#]]);
    host.refuses(&["audit", "verify"], &expect![[r#"
        exit 1
        keyrack: cannot use the store in PLACE/data: the store is damaged: error returned from database: (code: 26) file is not a database. Restore it from a backup
    "#]]);
    fs::remove_file(host.file("keyrack.db")).unwrap();
    fs::create_dir(host.file("keyrack.db")).unwrap();
    host.refuses(&["serve"], &expect![[r#"
        exit 1
        keyrack: cannot use the store in PLACE/data: the store is not available; check that its directory and files can be read and written, or that its server can be reached: error returned from database: (code: 14) unable to open database file
    "#]]);
}

#[test]
fn a_place_that_cannot_be_used_is_refused() {
    let host = Host::new();
    fs::write(host.place.path().join("letter"), "Dear friend").unwrap();
    let before = contents(host.place.path());
    let on = |data: &str| keyrack(&host.place.path().join(data));
    refuses(
        on("letter").arg("serve"),
        host.place.path(),
        &expect![[r#"
            exit 1
            keyrack: cannot use PLACE/letter as data directory; choose another with --data-dir, or let this user write to it: Not a directory (os error 20)
        "#]],
    );
    refuses(
        on("letter/data").arg("serve"),
        host.place.path(),
        &expect![[r#"
            exit 1
            keyrack: cannot use PLACE/letter/data as data directory; choose another with --data-dir, or let this user write to it: Not a directory (os error 20)
        "#]],
    );
    assert_eq!(contents(host.place.path()), before);

    // Root may write everywhere, unless that right is taken away.
    let unprivileged = |data: &Path| {
        let mut command = Command::new("setpriv");
        if rustix::process::geteuid().is_root() {
            command.arg("--bounding-set=-dac_override");
        }
        command
            .arg(KEYRACK)
            .env_clear()
            .args(["serve", "--listen", "127.0.0.1:0", "--verify-listen", "127.0.0.1:0", "--data-dir"])
            .arg(data);
        command
    };
    let before = contents(&host.data());
    fs::set_permissions(host.data(), fs::Permissions::from_mode(0o500)).unwrap();
    refuses(
        &mut unprivileged(&host.data().join("new")),
        host.place.path(),
        &expect![[r#"
            exit 1
            keyrack: cannot use PLACE/data/new as data directory; choose another with --data-dir, or let this user write to it: Permission denied (os error 13)
        "#]],
    );
    refuses(
        &mut unprivileged(&host.data()),
        host.place.path(),
        &expect![[r#"
            exit 1
            keyrack: cannot use the store in PLACE/data: the store is not available; check that its directory and files can be read and written, or that its server can be reached: error returned from database: (code: 1544) attempt to write a readonly database
        "#]],
    );
    fs::set_permissions(host.data(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(contents(&host.data()), before);
}

#[test]
fn what_another_process_uses_is_refused() {
    let host = Host::new();
    let admin = words(&host.keys, "project_key");
    let server = Server::start(&host.data());
    let entries = || host.command(&["audit", "export"]).output().unwrap().stdout;
    let before = entries();
    refuses(
        &mut host.command(&["serve"]),
        host.place.path(),
        &expect![[r#"
        exit 1
        keyrack: PLACE/data is in use by another keyrack. Stop that one first, or choose another directory with --data-dir
    "#]],
    );
    refuses(
        &mut host.command(&["recover", "--operator"]),
        host.place.path(),
        &expect![[r#"
        exit 1
        keyrack: PLACE/data is in use by another keyrack. Stop that one first, or choose another directory with --data-dir
    "#]],
    );
    assert_eq!(entries(), before, "the store was changed beside the running server");
    assert_eq!(create(&server, &admin), 200);

    let place = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(KEYRACK);
    command.env_clear().current_dir(place.path()).args(["serve", "--verify-listen", "off", "--listen", &address]);
    let said = transcript(&mut command, place.path()).replace(&address, "ADDRESS");
    expect![[r#"
        exit 1
        keyrack: cannot listen on ADDRESS. Choose another with --listen: Address already in use (os error 98)
    "#]]
    .assert_eq(&said);
    assert!(contents(place.path()).is_empty(), "something was made although the address was taken");
}
