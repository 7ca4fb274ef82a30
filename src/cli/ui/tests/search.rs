//! The filter.

use super::fixture::{Browser, merge, sample};

#[test]
fn names_that_match_are_shown_with_their_directories() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("/w");
    assert_eq!(browser.tree(), [" ▾ etc/", "     passwd", " ▾ usr/", "   ▾ share/", "       new"]);
    browser.press("d");
    assert_eq!(browser.tree(), [" ▾ etc/", "     passwd"]);
    assert_eq!(merged.path(browser.state.selected().unwrap()), b"etc/passwd");
    browser.press("<Backspace>");
    assert_eq!(browser.tree().len(), 5);
    browser.press("<Enter>q<Esc>");
    // Without the filter again, what was found stays in sight.
    assert_eq!(browser.tree(), ["A▸ app/", " ▾ etc/", "     passwd", " ▸ odd/", " ▸ usr/"]);
    assert_eq!(merged.path(browser.state.selected().unwrap()), b"etc/passwd");
}

#[test]
fn paths_match_where_there_is_a_slash() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("/share/n");
    assert_eq!(browser.tree(), [" ▾ usr/", "   ▾ share/", "       new"]);
    browser.press("<Esc>/\u{2f}app/");
    assert_eq!(browser.tree(), ["A▾ app/", "A    empty/", "A    run"]);
    browser.press("<Esc>/nothing of that name");
    let screen = browser.screen();
    assert!(screen[99].contains("0 matches"), "{}", screen[99]);
    assert!(screen[3].contains("nothing matches"), "{}", screen[3]);
}

#[test]
fn a_directory_that_matches_can_be_opened() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("/usr<Enter>");
    assert_eq!(browser.tree(), [" ▸ usr/"]);
    browser.press("l");
    assert_eq!(browser.tree(), [" ▾ usr/", "   ▸ bin/", "   ▸ share/"]);
}

#[test]
fn capital_letters_count_where_there_are_some() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("[[/readme");
    assert_eq!(browser.state.tree.filter.count(), Some(1));
    browser.press("<Esc>/Readme");
    assert_eq!(browser.state.tree.filter.count(), Some(0));
    browser.press("<Esc>/README");
    assert_eq!(browser.state.tree.filter.count(), Some(1));
}

#[test]
fn the_filter_follows_the_layer() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("/hosts<Enter>");
    assert_eq!(browser.state.tree.filter.count(), Some(0));
    browser.press("[");
    assert_eq!(browser.tree(), ["·▾ etc/", "D    hosts"]);
    browser.press("[");
    assert_eq!(browser.tree(), ["A▾ etc/", "A    hosts"]);
}

#[test]
fn a_long_search_leaves_room_for_keys() {
    let names: Vec<String> = (0..21_000).map(|n| format!("d/{n}")).collect();
    let entries: Vec<(&[u8], usize)> = names.iter().map(|name| (name.as_bytes(), 0)).collect();
    let merged = merge(&[&entries]);
    let mut browser = Browser::new(&merged);
    browser.press("/");
    browser.state.apply(super::super::keys::Action::Type('9'));
    assert!(browser.state.is_busy());
    assert!(browser.screen()[23].contains("searching…"));
    browser.press("99");
    assert_eq!(browser.state.tree.filter.count(), Some((0..21_000).filter(|n| n.to_string().contains("999")).count()));
}
