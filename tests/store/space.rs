//! `prune`, `df` and `verify`.

use super::harness::Bed;
use super::sample::{APP, BASE, DATA, Sample, digest};
use laminafs::store::Store;
use serde_json::json;
use std::fs;

/// Two images that share a layer, one of them with a writable layer, and one without a name.
fn bed() -> (Bed, Sample, Sample, Sample) {
    let (a, b, c) = (Sample::new(1, &[BASE, APP]), Sample::new(2, &[BASE, DATA]), Sample::new(3, &[DATA]));
    let bed = Bed::with(&[(&a, &["a:1"]), (&b, &["b:1"]), (&c, &[])]);
    let store = Store::open(&bed.root()).unwrap();
    let writable = store.create_writable(&store.find("a:1").unwrap().record.id, None, Some("web")).unwrap();
    fs::write(writable.upper.join("file"), vec![1; 10_000]).unwrap();
    (bed, a, b, c)
}

#[test]
fn prune_tells_what_went() {
    let (bed, a, b, c) = bed();
    let said = bed.ok("prune -f");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["Deleted Images:", &format!("deleted: {}", c.id())]);
    assert!(lines.len() == 5 && lines[3].is_empty() && lines[4].starts_with("Total reclaimed space: "), "{said}");
    assert_eq!(bed.ok("prune -f"), "Total reclaimed space: 0B\n");
    let document = bed.json("prune -a -f --json");
    assert_eq!(document["untagged"], json!(["docker.io/library/b:1"]));
    assert_eq!((&document["images"], &document["writable"]), (&json!([b.id()]), &json!([])));
    assert!(document["reclaimed"].as_u64().unwrap() > 0);
    let said = bed.ok("prune -a -f --writable");
    assert!(said.starts_with("Deleted Writable Layers:\nweb\n\nDeleted Images:\nuntagged: a:1\ndeleted: "), "{said}");
    assert!(said.contains(&a.id()));
    assert_eq!(fs::read_dir(bed.root().join("layers/sha256")).unwrap().count(), 0);
}

#[test]
fn prune_asks_on_a_terminal_and_refuses_without() {
    let (bed, ..) = bed();
    assert!(bed.fails("prune -a").contains("give -f to remove without asking"));
    let (code, out, shown) = bed.on_terminal("prune -a", "n\n", false);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(shown.contains("WARNING! This will remove all images that no writable layer stands on."), "{shown}");
    assert!(shown.contains("[y/N]") && shown.contains("nothing was removed"), "{shown}");
    assert_eq!(bed.ok("images -aq").lines().count(), 3);
    let (code, out, shown) = bed.on_terminal("prune --writable", "y\n", false);
    assert_eq!(code, Some(0));
    assert!(
        shown.contains("remove all writable layers that are not mounted, with what is in them, and all images without"),
        "{shown}"
    );
    assert!(out.starts_with("Deleted Writable Layers:\nweb\n"), "{out}");
}

#[test]
fn df_adds_up() {
    let (bed, ..) = bed();
    let text = bed.ok("df");
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    assert_eq!(lines[1][..3], ["Images", "3", "1"]);
    assert_eq!(lines[2][..4], ["Writable", "Layers", "1", "0"]);
    assert!(lines[1][5].starts_with('(') && lines[1][5].ends_with("%)") && lines[2][6] == "(100%)", "{text}");
    let d = bed.json("df --json");
    let number = |key: &str| d[key].as_u64().unwrap();
    let images = d["images"].as_array().unwrap();
    let unique: u64 = images.iter().map(|i| i["disk_unique"].as_u64().unwrap()).sum();
    assert_eq!(unique + number("shared_once") + number("unreferenced"), number("layers_disk") + number("blobs_disk"));
    assert_eq!(images[0]["writable"], json!(["web"]));
    assert!(d["writable"][0]["disk"].as_u64().unwrap() >= 10_000 && d["writable"][0]["mountpoint"].is_null());
    let objects = bed.ok("df --format json");
    let first: serde_json::Value = serde_json::from_str(objects.lines().next().unwrap()).unwrap();
    assert_eq!((&first["Type"], &first["TotalCount"]), (&json!("Images"), &json!("3")));
    assert_eq!(bed.run("df -v --format json").status.code(), Some(2));
}

#[test]
fn df_lists_everything_on_request() {
    let (bed, ..) = bed();
    let text = bed.ok("df -v");
    let sections: Vec<&str> = text.split("\n\n").collect();
    assert_eq!(sections[0], "Images space usage:");
    let columns = "REPOSITORY TAG IMAGE ID CREATED SIZE SHARED SIZE UNIQUE SIZE WRITABLE LAYERS";
    let images: Vec<String> = sections[1].lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(images[0], columns);
    assert!(images[1].starts_with("a 1 ") && images[1].contains("24 hours ago") && images[1].ends_with(" 1"), "{text}");
    assert!(images[3].starts_with("<none> <none> "), "{text}");
    assert!(sections[2].starts_with("Shared by several images, counted once: "), "{text}");
    assert!(sections[2].ends_with("\nLayers and blobs of no image: 0B"), "{text}");
    let row: Vec<&str> = sections[4].lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[..2].to_vec(), row[row.len() - 2..].join(" ")), (vec!["web", "a:1"], "Not mounted".to_owned()));
}

#[test]
fn verify_is_for_scripts() {
    let (bed, a, ..) = bed();
    let sound = "Verified 9 blobs, 5 layers, 3 images, 2 names, 1 writable layer: sound\n";
    assert_eq!(bed.ok("verify"), sound.replace("5 layers", "4 layers"));
    assert_eq!(bed.json("verify --json")["sound"], true);
    // A file of a layer, and a blob that only one image has.
    let lower = bed.json("inspect a:1")[0]["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap().to_owned();
    fs::write(std::path::Path::new(lower.split(':').next().unwrap()).join("app/run"), "gone gone").unwrap();
    let output = bed.run("verify");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("Wrong: ") && text.lines().last().unwrap().ends_with(": 1 fault"), "{text}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("`laminafs verify --repair`"));
    let output = bed.run("verify --json");
    assert_eq!(output.status.code(), Some(1));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["sound"], &document["repair"]["found"]), (&json!(false), &json!([])));
    assert_eq!(document["faults"].as_array().unwrap().len(), 1);
    let text = bed.ok("verify --repair");
    for part in ["Found: ", "Unpacked again: sha256:", "Put away: ", ": sound\n"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    fs::remove_file(bed.root().join("blobs/sha256").join(&digest(&a.layers[1].1)[7..])).unwrap();
    assert_eq!(bed.run("verify").status.code(), Some(1));
}

/// Who only looks changes nothing.
#[test]
fn listing_what_is_not_there_makes_no_store() {
    let bed = Bed::new();
    assert_eq!(
        bed.ok("images").split_whitespace().collect::<Vec<_>>(),
        ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    );
    assert_eq!(bed.ok("images -q"), "");
    assert_eq!(bed.json("ps -a --json")["writable"], json!([]));
    assert_eq!(bed.json("df --json")["images"], json!([]));
    let verified = bed.json("verify --json");
    assert_eq!((&verified["sound"], &verified["layers"]), (&json!(true), &json!(0)));
    assert!(bed.ok("verify --repair").contains("0 layers"));
    assert_eq!(bed.json("share --json")["layers"], json!([]));
    for line in ["inspect no", "inspect --type image no", "history no", "share no", "share no one", "save -o f no"] {
        assert!(bed.fails(line).contains("no such image: no"), "{line}");
    }
    for line in ["inspect --type writable no", "diff no", "commit no"] {
        assert!(bed.fails(line).contains("no such writable layer: no"), "{line}");
    }
    for line in ["layers no", "whence no /", "ls no", "diff no other", "report no", "export no"] {
        assert!(bed.fails(line).contains("there is no writable layer and no image no"), "{line}");
    }
    bed.write("web.tar", b"");
    assert!(bed.fails("layers web.tar").contains("docker-archive:web.tar"));
    assert!(!bed.root().exists() && !bed.p("f").exists());
    // What is no store is told, and not taken for an empty one.
    bed.write("root", b"");
    assert!(bed.fails("images").contains("cannot open the image store"));
    fs::remove_file(bed.root()).unwrap();
    fs::create_dir(bed.root()).unwrap();
    assert_eq!(bed.ok("images -q"), "");
    fs::write(bed.root().join("other"), b"").unwrap();
    assert!(bed.fails("images").contains("is not a laminafs store: it holds other"));
}

#[test]
fn one_damaged_record_does_not_hide_the_others() {
    let (bed, a, _, c) = bed();
    let name = &digest(b"docker.io/library/b:1")[7..];
    fs::write(bed.root().join("refs").join(name), b"{").unwrap();
    fs::write(bed.root().join("images/sha256").join(&c.id()[7..]), b"{").unwrap();
    for (line, listed) in [("images", "a "), ("df -v", "a "), ("ps -a", "web")] {
        let output = bed.run(line);
        let (out, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        assert!(out.contains(listed), "{line}: {out}");
        assert_eq!(said.matches(" is damaged: ").count(), 2, "{line}: {said}");
        assert!(said.contains(&format!("/refs/{name} is damaged")) && said.contains("verify --repair"), "{said}");
    }
    assert_eq!(bed.json("inspect a:1")[0]["Id"], a.id());
    let output = bed.run("layers a:1");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.matches("note: ").count() == 2 && !output.stdout.is_empty(), "{said}");
    let output = bed.run("share");
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), false));
    // Who removes has to know all.
    assert!(bed.fails("prune -f").contains(" is damaged: "));
}

#[test]
fn one_damaged_layer_or_writable_layer_does_not_hide_the_others() {
    let (bed, ..) = bed();
    let store = Store::open(&bed.root()).unwrap();
    store.create_writable(&store.find("a:1").unwrap().record.id, None, Some("other")).unwrap();
    fs::write(bed.root().join("writable/other/writable.json"), b"{").unwrap();
    let top = bed.json("inspect b:1")[0]["RootFS"]["Layers"].as_array().unwrap().len();
    let layers = bed.json("layers --json b:1");
    let chain = layers["layers"][top - 1]["chain_id"].as_str().unwrap()[7..].to_owned();
    fs::write(bed.root().join("layers/sha256").join(chain).join("layer.json"), b"{").unwrap();
    // In which the writable layer matters, and the layer.
    for (line, listed, damaged) in [
        ("ps -a", "web", ["writable.json", ""]),
        ("ps -as", "web", ["writable.json", ""]),
        ("df -v", "web", ["writable.json", "layer.json"]),
        ("df --json", "\"web\"", ["writable.json", "layer.json"]),
        ("images", "N/A", ["layer.json", ""]),
    ] {
        let output = bed.run(line);
        let (out, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        assert!(out.contains(listed), "{line}: {out}");
        assert!(damaged.iter().all(|what| said.contains(what)), "{line}: {said}");
        let expected = damaged.iter().filter(|what| !what.is_empty()).count();
        assert_eq!(said.matches(" is damaged: ").count(), expected, "{line}: {said}");
    }
    bed.ok("layers a:1");
    assert!(bed.fails("prune -f").contains(" is damaged: "), "who removes has to know all");
}

#[test]
fn a_store_on_a_read_only_file_system_can_be_read() {
    let (bed, a, ..) = bed();
    let script = "mount --bind root root; mount -o remount,bind,ro root; export LAMINAFS_ROOT=root
        for command in 'images -q' df 'ps -a' 'history -q a:1' verify; do \"$0\" $command >/dev/null; done
        \"$0\" inspect a:1 | grep -c \"$1\"
        \"$0\" save -o a.tar a:1
        mkdir m; \"$0\" mount --read-only a:1 m; ls m | wc -l; \"$0\" umount m
        ! \"$0\" rmi a:1 2>&1";
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "--propagation", "slave", "sh", "-euc", script]);
    let output = command.args([super::harness::PROGRAM, &a.id()]).current_dir(bed.dir()).output().unwrap();
    let (out, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && said.is_empty(), "{out}{said}");
    assert!(out.starts_with("1\n") && !out.contains("\n0\n") && out.contains("Read-only file system"), "{out}");
    assert!(bed.p("a.tar").metadata().unwrap().len() > 1000);
}
