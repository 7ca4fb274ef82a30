//! What is on the screen.

use super::super::theme::Theme;
use super::fixture::{Browser, merge, sample};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

#[test]
fn names_keep_to_their_columns_and_steer_nothing() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("jjl");
    let expected = [
        " ▾ odd/",
        r"     \u{1b}[31mred\u{7}",
        "     e\u{301}e\u{301}",
        r"     not \xff text",
        "     日本語",
        r"     \u{202e}turned",
    ];
    let tree = browser.tree();
    for line in &expected {
        assert!(tree.contains(&(*line).to_owned()), "{line} is not in {tree:#?}");
    }
    browser.size = (80, 24);
    let screen = browser.screen();
    for line in &screen {
        assert_eq!(line.width(), 80, "{line}");
    }
    let framed =
        screen.iter().filter(|line| line.contains("odd/") || line.contains("日本語") || line.contains("e\u{301}"));
    assert!(framed.clone().count() >= 3);
    framed.for_each(|line| assert!(line.ends_with('│'), "{line}"));
    assert!(screen[0].contains(r"a \u{1b}[5mstack"), "{}", screen[0]);
    assert!(screen[4].contains(r"RUN step 2\u{1b}]0"), "{}", screen[4]);
}

#[test]
fn every_screen_on_terminals_of_any_size() {
    let merged = sample();
    for keys in ["", "Ge", "v[", "<Tab>", "<Tab><Tab>", "?", "w", "w<End><Tab>", "/日本語", "/zz", "[[Gejjj<Enter>"]
    {
        for size in
            [(0, 0), (1, 1), (1, 9), (9, 1), (2, 2), (3, 3), (20, 5), (30, 8), (59, 14), (60, 14), (80, 24), (300, 90)]
        {
            let mut browser = Browser::new(&merged);
            browser.press(keys);
            browser.size = size;
            browser.press("<Down><PageDown><End><Up>");
            assert_eq!(browser.screen().len(), usize::from(size.1));
        }
    }
}

#[test]
fn a_tiny_terminal_shows_the_pane_with_the_focus() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("jj");
    browser.size = (20, 5);
    let tree = browser.screen();
    assert!(tree[3].contains("odd/"), "{tree:#?}");
    browser.press("<Tab>");
    assert!(browser.screen()[1].starts_with("/odd"));
    browser.press("<Tab>");
    assert!(browser.screen()[3].starts_with("3"), "{:#?}", browser.screen());
}

#[test]
fn marks_have_colours_unless_there_is_no_color() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("[Gjkkkl");
    let colours = |browser: &mut Browser<'_>| {
        let buffer = browser.buffer();
        let mut found: Vec<Color> = buffer.content.iter().flat_map(|cell| [cell.fg, cell.bg]).collect();
        found.sort_by_key(|colour| format!("{colour:?}"));
        found.dedup();
        found
    };
    let found = colours(&mut browser);
    for wanted in [Color::Red, Color::Yellow, Color::Blue] {
        assert!(found.contains(&wanted), "{wanted} is not in {found:?}");
    }
    browser.state.theme = Theme::new(false);
    assert_eq!(colours(&mut browser), [Color::Reset]);
    let reversed = |cell: &&ratatui::buffer::Cell| cell.modifier.contains(Modifier::REVERSED);
    assert!(browser.buffer().content.iter().filter(reversed).count() > 10, "the selection is seen without colours");
}

#[test]
fn details_name_every_layer_that_touches_the_path() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("jll");
    let text = browser.screen().join("\n");
    assert!(text.contains("/etc/passwd"), "{text}");
    assert!(text.contains("►  2 -rw-r--r-- "), "{text}");
    assert!(text.contains("  content changed"), "{text}");
    assert!(text.contains("  added; superseded by layer 2"), "{text}");
    browser.press("[<BackTab>");
    let text = browser.screen().join("\n");
    assert!(text.contains("1 added, 2 changed, 3 deleted"), "{text}");
}

#[test]
fn without_layers_there_is_an_empty_tree() {
    let merged = merge(&[]);
    let mut browser = Browser::new(&merged);
    for keys in ["", "]", "jlp", "<BackTab>", "w", "<Enter>", "vs"] {
        browser.press(keys);
        let text = browser.screen().join("\n");
        assert!(text.contains("0 layers"), "{text}");
        assert!(text.contains("No layers: 0B") || text.contains("0B that nobody can see"), "{text}");
    }
}

#[test]
fn the_help_names_the_keys_and_scrolls_where_it_does_not_fit() {
    let merged = sample();
    let mut browser = Browser::new(&merged);
    browser.press("?");
    browser.size = (100, 40);
    let text = browser.screen().join("\n");
    for part in ["PgUp PgDn", "go to the layer that gives", "deleted by it"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    browser.size = (40, 8);
    assert!(!browser.screen().join("\n").contains("something in the directory"));
    browser.press("<End>");
    assert!(browser.screen().join("\n").contains("something in the"));
    browser.press("?");
    assert!(!browser.screen().join("\n").contains("Keys"));
}
