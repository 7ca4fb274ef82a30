//! `history` and `inspect`.

use super::harness::Bed;
use super::sample::{APP, BASE, Sample, days_ago, digest, short};
use serde_json::{Value, json};

#[test]
fn history_is_a_table_newest_first() {
    let image = Sample::new(3, &[BASE, APP]);
    let bed = Bed::with(&[(&image, &["a:1"])]);
    let id = image.id();
    let expected = format!(
        "IMAGE          CREATED      CREATED BY        SIZE      COMMENT\n\
         {}   3 days ago   CMD [\"/bin/sh\"]   0B\n\
         <missing>      3 days ago   COPY layer-1 /    8B        test\n\
         <missing>      3 days ago   COPY layer-0 /    5B        test\n",
        short(&id)
    );
    assert_eq!(bed.ok("history a:1"), expected);
    assert_eq!(bed.ok("history -q --no-trunc a:1"), format!("{id}\n<missing>\n<missing>\n"));
    let exact = bed.ok("history --human=false a:1");
    assert!(exact.starts_with("IMAGE          CREATED AT ") && exact.contains("Z   CMD"), "{exact}");
    let objects: Vec<Value> =
        bed.ok("history --format json a:1").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(objects[1]["CreatedBy"], "COPY layer-1 /");
    assert_eq!((&objects[0]["ID"], &objects[1]["ID"]), (&json!(short(&id)), &json!("<missing>")));
    let document = bed.json("history --json a:1");
    assert_eq!(document["image"], id);
    assert_eq!(document["steps"][0]["created_by"], "COPY layer-0 /");
    assert_eq!(document["steps"][0]["layer"]["diff_id"], digest(&image.layers[0].0));
    assert_eq!((&document["steps"][1]["layer"]["size"], &document["steps"][2]["layer"]), (&json!(8), &Value::Null));
}

#[test]
fn history_is_odd_and_hostile_at_times() {
    let steps = json!([
        {"created": "1970-01-01T00:00:00Z", "created_by": "RUN \u{1b}[31m\techo 0123456789012345678901234567890123456789"},
        {"created": "nonsense", "created_by": "a\nb", "comment": "\u{202e}"},
    ]);
    let fields = json!({"created": days_ago(1), "history": steps});
    let bed = Bed::with(&[(&Sample::with(&[BASE], fields), &["a"]), (&Sample::with(&[BASE, APP], json!({})), &["b"])]);
    let text = bed.ok("history a");
    let rows: Vec<&str> = text.lines().skip(1).collect();
    assert!(rows[0].contains("N/A       a b") && rows[0].ends_with(r"<missing>   \u{202e}"), "{text}");
    assert!(rows[1].contains(r"N/A       RUN \u{1b}[31m echo 012345678901234567890123…   5B"), "{text}");
    assert!(!text.contains('\u{1b}') && !bed.ok("history --json a").contains('\u{202e}'));
    assert!(bed.ok("history --no-trunc a").contains("echo 0123456789012345678901234567890123456789"));
    let rows = bed.ok("history b");
    assert_eq!(rows.matches("N/A       <missing>").count(), 2, "{rows}");
}

#[test]
fn inspect_has_the_keys_of_docker() {
    let image = Sample::new(3, &[BASE, APP]);
    let bed = Bed::with(&[(&image, &["a:1", "a:2", "quay.io/b/c:1"])]);
    let text = bed.ok("inspect a:1");
    assert!(text.starts_with("[\n    {\n        \"Architecture\""), "{text}");
    let found: Value = serde_json::from_str(&text).unwrap();
    let (found, manifest) = (&found[0], image.manifest_digest());
    assert_eq!(found["Id"], image.id());
    assert_eq!(found["RepoTags"], json!(["a:1", "a:2", "quay.io/b/c:1"]));
    assert_eq!(found["RepoDigests"], json!([format!("a@{manifest}"), format!("quay.io/b/c@{manifest}")]));
    assert_eq!((&found["Os"], &found["Size"]), (&json!("linux"), &json!(13)));
    assert_eq!(found["Config"], json!({"Cmd": ["/bin/sh"], "Env": ["A=b"]}));
    let layers: Vec<String> = image.layers.iter().map(|(tar, _)| digest(tar)).collect();
    assert_eq!(found["RootFS"], json!({"Type": "layers", "Layers": layers}));
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    assert_eq!(found["Descriptor"], json!({"mediaType": media_type, "digest": manifest, "size": image.manifest.len()}));
    let lower = found["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap();
    let paths: Vec<&str> = lower.split(':').collect();
    assert!(
        std::path::Path::new(paths[0]).join("app/run").is_file()
            && std::path::Path::new(paths[1]).join("etc/os").is_file()
    );
    assert!(found.get("Author").is_none());
}

#[test]
fn inspect_finds_writable_layers_first_and_says_what_it_did_not_find() {
    let image = Sample::new(3, &[BASE]);
    let bed = Bed::with(&[(&image, &["web", "other"])]);
    let store = laminafs::store::Store::open(&bed.root()).unwrap();
    store.create_writable(&store.find("web").unwrap().record.id, None, Some("web")).unwrap();
    let output = bed.run("inspect web nothing other");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no such image: nothing"));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 2);
    assert_eq!((&found[0]["Name"], &found[0]["Image"]), (&json!("web"), &json!(image.id())));
    assert_eq!(found[0]["State"], json!({"Status": "unmounted", "Running": false, "Pid": 0, "StartedAt": null}));
    assert!(found[0]["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap().ends_with("/writable/web/upper"));
    assert_eq!(found[1]["Id"], image.id());
    assert_eq!(bed.json("inspect --type image web")[0]["Id"], image.id());
    assert!(bed.fails("inspect --type writable other").contains("no such writable layer: other"));
}
