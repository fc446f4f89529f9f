//! Starting, and what must not happen on the way: a lost store, somebody else's data removed, a secret kept.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;

use crate::rig::Rig;

#[test]
fn a_link_to_a_disk_that_is_not_mounted_is_no_empty_store() {
    let rig = Rig::new("");
    symlink("/nonexistent/mail.mdb", rig.dir.join("mail.mdb")).unwrap();
    let said = rig.refused(&["user", "list"], 1);
    assert!(said.contains("cannot be opened"), "{said}");
    assert!(fs::symlink_metadata(rig.dir.join("mail.mdb")).unwrap().is_symlink(), "the link was replaced");
}

#[test]
fn first_passwords_reach_no_history_and_a_reload_consumes_them() {
    let rig = Rig::serving("");
    let text = fs::read_to_string(&rig.file).unwrap();
    fs::write(&rig.file, text + "\n[[first-user]]\naddress = \"eve@home.test\"\npassword = \"word-of-eve\"\n").unwrap();
    rig.fine(&["reload"]);
    rig.until("the account of the block", || rig.fine(&["user", "list"]).contains("eve@home.test"));
    rig.until("the block's end", || !fs::read_to_string(&rig.file).unwrap().contains("word-of-eve"));
    let history: Vec<_> = fs::read_dir(rig.dir.join("history")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!history.is_empty());
    for version in history {
        let text = fs::read_to_string(&version).unwrap();
        assert!(!text.contains("word-of-eve") && !text.contains("secret-word"), "{}", version.display());
    }
}

#[test]
fn a_link_to_the_configuration_stays_one() {
    let mut rig = Rig::new("");
    let link = rig.dir.join("link.toml");
    symlink(&rig.file, &link).unwrap();
    let real = std::mem::replace(&mut rig.file, link);
    rig.start();
    rig.fine(&["alias", "add", "info@home.test", "ann@home.test"]);
    assert!(fs::symlink_metadata(&rig.file).unwrap().is_symlink());
    assert!(fs::read_to_string(real).unwrap().contains("info@home.test"));
}

/// Runs as root only, which CI does.
#[test]
fn root_hands_the_directory_over_and_leaves_nothing_of_its_own() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("not root: nothing to hand over");
        return;
    }
    let mut rig = Rig::new("user = \"nobody\"\n");
    let data = rig.dir.join("data/below");
    let text = fs::read_to_string(&rig.file)
        .unwrap()
        .replace(&format!("dir = \"{}\"", rig.dir.display()), &format!("dir = \"{}\"", data.display()));
    fs::write(&rig.file, text).unwrap();
    fs::set_permissions(&rig.dir, fs::Permissions::from_mode(0o755)).unwrap();
    // The first thing a person does, before any server ran.
    let added = rig.pipit_with_input(&["user", "add", "eve@home.test", "--password-stdin"], "long-word\n");
    assert!(added.status.success(), "{added:?}");
    let nobody = fs::metadata(&data).unwrap().uid();
    assert_ne!(nobody, 0);
    for entry in fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().uid(), nobody, "{}", entry.path().display());
    }
    rig.socket = data.join("pipit.sock");
    rig.start();
    // The file is root's in a folder of root: its first passwords cannot leave it, which is said, and mail is served.
    let status = rig.fine(&["status"]);
    assert!(status.contains("[[first-user]]"), "{status}");
    rig.deliver("eve@home.test", "From: <x@y.test>\r\n\r\nx");
    assert_eq!(rig.fine(&["mail", "list", "eve@home.test", "--json"]).lines().count(), 1);
    // A directory with other things of root is not taken.
    let other = Rig::new("user = \"nobody\"\n");
    fs::write(other.dir.join("precious"), "x").unwrap();
    let said = other.refused(&["serve"], 1);
    assert!(said.contains("precious") && said.contains("not taken over"), "{said}");
}
