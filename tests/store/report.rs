//! `laminafs report`: what the page has embedded, and what cannot get out of it.

use super::harness::Bed;
use super::sample::{APP, BASE, DATA, Sample, docker_archive};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// The data of a page.
fn data(page: &str) -> Value {
    let marker = r#"<script type="application/json" id="data">"#;
    let (_, rest) = page.split_once(marker).expect("the data");
    let (json, _) = rest.split_once("</script>").expect("its end");
    serde_json::from_str(json).unwrap()
}

fn bed() -> Bed {
    let image = Sample::new(1, &[BASE, APP, DATA]);
    Bed::with(&[(&image, &["web:1"])])
}

#[test]
fn the_page_says_what_the_other_commands_say() {
    let bed = bed();
    let page = data(&bed.ok("report web:1"));
    let waste = bed.json("waste --json web:1");
    let layers = bed.json("layers --json web:1");
    let totals = &page["totals"];
    let sum = |of: &Value| of["hidden"].as_u64().unwrap() + of["deleted"].as_u64().unwrap();
    assert_eq!(json!(sum(totals)), waste["wasted_bytes"]);
    assert_eq!(totals["deleted"], 3);
    assert_eq!(json!(sum(totals) + totals["visible"].as_u64().unwrap()), waste["total_bytes"]);
    for (mine, theirs) in page["layers"].as_array().unwrap().iter().zip(layers["layers"].as_array().unwrap()) {
        assert_eq!(json!(sum(mine)), theirs["hidden"]);
        assert_eq!(mine["added"], theirs["added"]);
        assert_eq!(mine["compressed"], theirs["compressed"]);
        assert_eq!(mine["command"], theirs["command"]);
    }
    assert_eq!(page["layers"].as_array().unwrap().len(), 3);
    let steps = page["history"].as_array().unwrap();
    assert_eq!(steps.len(), 4);
    assert_eq!((&steps[2]["layer"], &steps[2]["command"]), (&json!(2), &json!("COPY layer-2 /")));
    assert_eq!(steps[3]["layer"], Value::Null);
    let names: Vec<&str> = page["nodes"].as_array().unwrap().iter().map(|node| node[1].as_str().unwrap()).collect();
    assert_eq!(names, ["", "app", "bin", "data", "etc", "run", "sh", "os"]);
    let os = &page["nodes"][7];
    assert_eq!((&os[0], &os[2][2], &os[3][2]), (&json!(4), &json!("added"), &json!("deleted")));
    assert_eq!(page["losses"][0]["why"], "deleted by layer 3");
}

#[test]
fn a_view_of_some_layers_has_their_history_only() {
    let bed = bed();
    let page = data(&bed.ok("report web:1@2"));
    assert_eq!(page["layers"].as_array().unwrap().len(), 2);
    assert_eq!(page["history"].as_array().unwrap().len(), 2);
    assert_eq!(page["totals"]["deleted"], 0);
}

#[test]
fn archives_need_not_be_loaded_and_the_same_layers_give_the_same_page() {
    let image = Sample::new(1, &[BASE, APP, DATA]);
    let bed = Bed::with(&[(&image, &["web:1"])]);
    bed.write("web.tar", &docker_archive(&[(&image, &["web:1"])]));
    let page = bed.ok("report docker-archive:web.tar");
    let (here, there) = (data(&page), data(&bed.ok("report web:1")));
    assert_eq!((&here["nodes"], &here["history"]), (&there["nodes"], &there["history"]));
    assert_eq!(page, bed.ok("report docker-archive:web.tar"));
}

#[test]
fn nothing_of_an_image_becomes_markup_or_script() {
    let evil = "</script><script>alert(1)</script><!-- \u{2028}\u{202e}\u{1b}[31m";
    let name = "<img src=x onerror=alert(2)>\u{202e}";
    let layers: &[&[(&str, &str)]] = &[&[(name, "x"), ("a\u{1b}[2Jb", "y"), ("{{data}}", "z")]];
    let history = json!([{"created": evil, "created_by": evil}]);
    let bed = Bed::with(&[(&Sample::with(layers, json!({ "history": history })), &["evil:1"])]);
    let page = bed.ok("report evil:1");
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains("<img") && !page.contains("<!--"));
    assert!(!page.contains(['\u{1b}', '\u{2028}', '\u{202e}']));
    let page = data(&page);
    let names: Vec<&str> = page["nodes"].as_array().unwrap().iter().map(|node| node[1].as_str().unwrap()).collect();
    assert_eq!(names, ["", r"<img src=x onerror=alert(2)>\u{202e}", r"a\u{1b}[2Jb", "{{data}}"]);
    let shown = r"</script><script>alert(1)</script><!-- \u{2028}\u{202e}\u{1b}[31m";
    assert_eq!(page["history"][0]["command"], shown);

    let svg = bed.ok("report --svg evil:1");
    roxmltree::Document::parse(&svg).unwrap();
    assert!(!svg.contains("<script") && !svg.contains(['\u{1b}', '\u{2028}', '\u{202e}']));
}

/// XML has no way to write some characters of Unicode.
#[test]
fn the_bars_are_well_formed_whatever_names_and_commands_hold() {
    let evil: String =
        ('\0'..='\u{ff}').chain("\u{d7ff}\u{e000}\u{fdd0}\u{fffd}\u{fffe}\u{ffff}\u{1fffe}".chars()).collect();
    let image = Sample::with(&[&[("a", "x")]], json!({"history": [{"created_by": evil}]}));
    let bed = Bed::new();
    let name = format!("\u{1}\u{1b}<&\"'>{}", &evil[evil.find('\u{d7ff}').unwrap()..]);
    bed.write(&name, &docker_archive(&[(&image, &["evil:1"])]));
    let output = bed.command(["report", "--svg", &format!("docker-archive:{name}")]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let svg = String::from_utf8(output.stdout).unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap();
    let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
    assert!(
        texts.iter().any(|text| text.starts_with("Layers of docker-archive:") && text.contains("\\u{fffe}")),
        "{texts:?}"
    );
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    let page = bed().ok("report web:1");
    let policy = page.split_once("Content-Security-Policy\" content=\"").unwrap().1;
    let policy = policy.split_once("\">").unwrap().0;
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    // The name of a namespace, in an address of a picture that stands in the page.
    assert_eq!(page.matches("http").count(), page.matches("http-equiv").count() + page.matches("xmlns='http").count());
    assert!(!page.contains("@import") && !page.contains("url("));
}

#[test]
fn the_bars_are_a_picture_of_their_own() {
    let bed = bed();
    let svg = bed.ok("report --svg web:1");
    assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("<title id=\"title\">Layers of web:1</title>"), "{svg}");
    assert!(svg.contains("3B deleted by layers above") && svg.contains("prefers-color-scheme:dark"));
    assert_eq!(svg.matches("class=\"number\"").count(), 3);
    assert_eq!(svg, bed.ok("report --svg web:1"));
}

#[test]
fn a_page_appears_when_it_is_complete() {
    let bed = bed();
    bed.ok("report -o page.html web:1");
    assert_eq!(fs::read_to_string(bed.p("page.html")).unwrap(), bed.ok("report web:1"));
    // A page is there to be shown to others; the file mode mask of whoever makes it says to whom.
    let mask = fs::metadata(bed.p("page.html")).unwrap().permissions().mode();
    bed.write("plain", b"");
    assert_eq!(mask & 0o777, fs::metadata(bed.p("plain")).unwrap().permissions().mode() & 0o777);
    bed.write("page.html", b"older");
    assert!(bed.fails("report -o page.html nothing").contains("nothing"));
    assert_eq!(fs::read(bed.p("page.html")).unwrap(), b"older");
    bed.ok("report --svg -o page.html web:1");
    assert!(fs::read_to_string(bed.p("page.html")).unwrap().starts_with("<svg"));
    let left: Vec<_> = fs::read_dir(bed.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".laminafs-")), "{left:?}");
}

#[test]
fn a_terminal_is_no_place_for_a_page() {
    let bed = bed();
    let (code, _, shown) = bed.on_terminal("report web:1", "", true);
    assert_eq!(code, Some(1));
    assert!(shown.contains("a page is nothing for a terminal"), "{shown}");
}
