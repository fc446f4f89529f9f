//! What DNS answers are believed by, as it is told and changed: with the server and without, by a reload, by a file with faults.

use std::fs;

use crate::rig::Rig;

const BUILT_IN: &str =
    "{\"zone\":\".\",\"tag\":38696,\"algorithm\":8,\"state\":\"valid\",\"since\":\"\",\"until\":\"\",\"source\":\"built-in\"}";

fn change(rig: &Rig, from: &str, to: &str) {
    let text = fs::read_to_string(&rig.file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&rig.file, text.replace(from, to)).unwrap();
}

#[test]
fn anchors_are_told_with_and_without_the_server_and_taken_by_a_reload() {
    let mut rig = Rig::new("");
    let list = |rig: &Rig| rig.fine(&["dns", "anchors", "--json"]);
    let offline = list(&rig);
    assert_eq!((offline.lines().count(), offline.lines().nth(1)), (2, Some(BUILT_IN)), "{offline}");
    rig.start();
    assert_eq!(list(&rig), offline);
    let status = rig.fine(&["status", "--json"]);
    for part in ["\"clock\":\"confirmed\"", "\"upstreams\":[{\"address\":\"127.0.0.1:9\"", BUILT_IN, "\"notes\":[]"] {
        assert!(status.contains(part), "{part} not in {status}");
    }
    let shown = rig.fine(&["status"]);
    assert!(shown.contains("\nanchor     . key 20326 valid (built-in)\n") && shown.contains("\nresolver   127.0.0.1:9 "), "{shown}");

    let anchors = rig.dir.join("anchors");
    fs::write(&anchors, "test. IN DS 7 13 2 aabb\n").unwrap();
    let more =
        format!("[dns]\ntrust-anchor = \"{}\"\nnegative-anchor = [\"old.test until 2026-01-01\", \"odd.test\"]\n", anchors.display());
    change(&rig, "[dns]\n", &more);
    rig.fine(&["reload"]);
    let fixed = "{\"zone\":\"test.\",\"tag\":7,\"algorithm\":13,\"state\":\"fixed\"";
    let taken = list(&rig);
    assert!(taken.starts_with(fixed) && taken.contains("\"state\":\"ended\"") && taken.contains("\"state\":\"negative\""), "{taken}");
    assert!(!taken.contains("built-in"), "{taken}");
    assert!(rig.fine(&["status"]).contains("note       old.test. counts as any other zone again"));

    // The same path with another content is a reload's business too; one with faults changes nothing.
    fs::write(&anchors, "; ours\ntest. IN DS 8 13\n").unwrap();
    let said = rig.refused(&["reload"], 1);
    assert!(said.contains("dns.trust-anchor: ") && said.contains("anchors: line 2: "), "{said}");
    assert_eq!(list(&rig), taken);
    fs::write(&anchors, "test. IN DS 8 13 2 ccdd\n").unwrap();
    rig.fine(&["reload"]);
    assert!(list(&rig).starts_with(&fixed.replace("\"tag\":7", "\"tag\":8")), "{}", list(&rig));
    let told = list(&rig);
    rig.kill();
    assert_eq!(list(&rig), told);
}

#[test]
fn the_ad_bit_is_believed_of_this_machine_only() {
    let mut rig = Rig::new("");
    change(&rig, "[dns]\n", "[dns]\ntrust-ad = true\n");
    rig.start();
    assert!(rig.fine(&["status"]).contains("note       DNS answers are validated by the resolvers of dns.upstream"));
    change(&rig, "\"127.0.0.1:9\"", "\"127.0.0.1:9\", \"192.0.2.53\"");
    let said = rig.refused(&["reload"], 1);
    assert!(said.contains("dns.trust-ad: 192.0.2.53 is not on this machine"), "{said}");
}
