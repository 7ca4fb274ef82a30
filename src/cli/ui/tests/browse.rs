//! Walking, opening, sorting, going from layer to layer.

use super::super::state::{Focus, Outcome};
use super::fixture::{Browser, sample};

#[test]
fn the_view_of_all_layers_comes_first_with_everything_closed() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    assert_eq!(browser.tree(), ["A▸ app/", " ▸ etc/", " ▸ odd/", " ▸ usr/"]);
}

#[test]
fn what_a_layer_does_is_marked() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("[");
    assert_eq!(browser.tree(), ["·▸ etc/", " ▸ odd/", "·▸ usr/"]);
    browser.press("ljjjje"); // into etc, past hosts, passwd and odd, to usr
    let expected = [
        "·▾ etc/",
        "D    hosts",
        "C    passwd",
        " ▸ odd/",
        "·▾ usr/",
        "   ▾ bin/",
        "       tool",
        "C  ▾ share/",
        "D      big",
        "D    ▾ doc/",
        "D        README",
        "A      new",
    ];
    assert_eq!(browser.tree(), expected);
    browser.press("v");
    let only_changes: Vec<&str> = expected.iter().copied().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(browser.tree(), only_changes);
    browser.press("v[");
    assert_eq!(browser.tree()[0], "A▾ etc/");
}

#[test]
fn directories_open_and_close_in_place() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    let closed = browser.tree();
    browser.press("j<Enter>");
    assert_eq!(browser.tree(), ["A▸ app/", " ▾ etc/", "     passwd", " ▸ odd/", " ▸ usr/"]);
    browser.press("l"); // into it
    assert_eq!(browser.state.tree.cursor.at, 2);
    browser.press("h"); // to the directory
    assert_eq!(browser.state.tree.cursor.at, 1);
    browser.press("h");
    assert_eq!(browser.tree(), closed);
    browser.press("Ge");
    let all = browser.tree();
    assert!(all.contains(&"         new".into()) || all.contains(&"       new".into()), "{all:?}");
    browser.press("hl"); // what was open inside stays open
    assert_eq!(browser.tree(), all);
    browser.press("c");
    assert_eq!(browser.tree(), closed);
    assert_eq!(browser.state.tree.cursor.at, 3, "usr is still selected");
}

#[test]
fn sizes_add_up_and_sort() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("s");
    assert_eq!(browser.tree(), [" ▸ usr/", "A▸ app/", " ▸ etc/", " ▸ odd/"]);
    browser.size = (80, 24);
    let screen = browser.screen();
    assert!(screen[3].contains("1.7kB     2 ▸ usr/"), "{}", screen[3]);
    assert!(screen[1].contains("Layers 1 to 3 merged: 1.78kB"), "{}", screen[1]);
    browser.press("[[");
    let screen = browser.screen();
    assert!(screen[3].contains("A   6.3kB     1 ▸ usr/"), "{}", screen[3]);
    browser.press("]v");
    let screen = browser.screen();
    assert!(screen[1].contains("Changes of layer 2: 720B"), "{}", screen[1]);
}

#[test]
fn the_layer_that_gives_a_file_is_one_key_away() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("jll<Enter>");
    assert_eq!(browser.state.number().unwrap().get(), 2);
    assert_eq!(merged.path(browser.state.selected().unwrap()), b"etc/passwd");
    assert!(browser.screen()[23].contains("layer 2 gives /etc/passwd"));
    // What is deleted: the layer that gave it.
    browser.press("kp");
    assert_eq!(merged.path(browser.state.selected().unwrap()), b"etc/hosts");
    assert_eq!(browser.state.number().unwrap().get(), 1);
    assert!(browser.tree().contains(&"A    hosts".into()));
    // And a layer above which nothing of it is left: its directory is selected.
    browser.press("]]");
    assert_eq!(merged.path(browser.state.selected().unwrap()), b"etc");
}

#[test]
fn panes_take_the_keys_in_turn() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    assert_eq!(browser.state.focus, Focus::Tree);
    browser.press("<BackTab>k");
    assert_eq!((browser.state.focus, browser.state.number().unwrap().get()), (Focus::Layers, 2));
    browser.press("<Home>");
    assert_eq!(browser.state.number().unwrap().get(), 1);
    browser.press("<Tab><Tab>");
    assert_eq!(browser.state.focus, Focus::Details);
    browser.press("<Tab><Enter>");
    assert_eq!(browser.state.focus, Focus::Tree);
}

#[test]
fn quitting_and_suspending() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    assert_eq!(browser.press("<C-z>"), Outcome::Suspend);
    assert_eq!(browser.press("/q"), Outcome::Continue);
    assert_eq!(browser.press("<C-c>"), Outcome::Quit);
    assert_eq!(browser.press("<Esc>q"), Outcome::Quit);
    assert_eq!(browser.press("?q"), Outcome::Quit);
}

#[test]
fn the_waste_view_leads_to_what_is_hidden() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("w");
    browser.size = (100, 24);
    let screen = browser.screen();
    assert!(screen[1].contains("5.41kB that nobody can see"), "{}", screen[1]);
    for (line, text) in [
        (2, "5.41kB of 7.2kB wasted"),
        (6, "5.3kB      2 parent opaque"),
        (7, "100B      1 deleted"),
        (8, "10B      1 replaced"),
        (3, "    5kB     1    2 parent opaque   /usr/share/big"),
        (4, "   300B     1    2 parent opaque   /usr/share/doc/README"),
        (5, "   100B     1    2 deleted         /etc/hosts"),
        (6, "    10B     1    2 replaced        /etc/passwd"),
    ] {
        assert!(screen[line].contains(text), "{text} is not in {}", screen[line]);
    }
    browser.press("jj<Enter>");
    assert_eq!(merged.path(browser.state.selected().unwrap()), b"etc/hosts");
    assert_eq!((browser.state.number().unwrap().get(), browser.state.waste.is_none()), (1, true));
    // It is as it was left.
    browser.press("w");
    assert_eq!(browser.state.waste.as_ref().unwrap().cursor.at, 2);
    browser.press("<Esc>");
    assert!(browser.state.waste.is_none());
}
