//! The browser without a terminal: what is selected and shown, and what each key changes of it.

use super::cursor::{Cursor, Motion};
use super::details::{self, Touched};
use super::draw;
use super::keys::Action;
use super::layout::{self, Panes};
use super::theme::Theme;
use super::tree::TreePane;
use super::waste::WastePane;
use super::worker::{Answer, Request};
use crate::cli::entries::shown;
use crate::provenance::{Merged, NodeId, Number, Summary};
use ratatui::layout::Rect;
use ratatui::text::Line;

/// Which pane the keys go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    Layers,
    /// The tree, or the waste view in its place.
    Tree,
    Details,
}

/// What the program has to do after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Continue,
    Quit,
    Suspend,
    Redraw,
}

impl Action {
    /// What the program has to do for it, whatever is shown.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Quit => Outcome::Quit,
            Self::Suspend => Outcome::Suspend,
            Self::Redraw => Outcome::Redraw,
            _ => Outcome::Continue,
        }
    }
}

/// All that decides what the screen shows, beside its size.
#[derive(Debug)]
pub struct State<'a> {
    pub merged: &'a Merged,
    pub theme: Theme,
    pub focus: Focus,
    pub layers: Cursor,
    /// What each layer adds up to, the lowest first.
    pub summaries: Vec<Summary>,
    pub tree: TreePane<'a>,
    /// The waste view, while it is shown in place of the tree; and while it is not.
    pub waste: Option<WastePane>,
    put_away: Option<WastePane>,
    pub details: Cursor,
    /// What layers do at a path, as far as it was found out.
    touched: Option<(NodeId, Result<Vec<Touched>, String>)>,
    /// What was asked for last.
    asked: Option<NodeId>,
    /// The text of the details, as of the last [`State::arrange`].
    pub details_text: Vec<Line<'static>>,
    /// The help, while it is shown.
    pub help: Option<Cursor>,
    /// What the last key led to, where it is not plain to see.
    pub notice: Option<String>,
}

impl<'a> State<'a> {
    /// Shows the view of all layers.
    pub fn new(merged: &'a Merged, theme: Theme) -> Self {
        let top = merged.top();
        Self {
            merged,
            theme,
            focus: Focus::Tree,
            layers: Cursor::on(top.index()),
            summaries: merged.summaries(),
            tree: TreePane::new(merged, top),
            waste: None,
            put_away: None,
            details: Cursor::default(),
            touched: None,
            asked: None,
            details_text: Vec::new(),
            help: None,
            notice: None,
        }
    }

    /// The selected layer.
    pub fn number(&self) -> Option<Number> {
        self.merged.numbers().nth(self.layers.at)
    }

    /// The selected path.
    pub fn selected(&self) -> Option<NodeId> {
        match &self.waste {
            Some(waste) => waste.selected().map(|file| file.node),
            None => self.tree.selected(),
        }
    }

    /// Whether there is something to do that does not wait for keys.
    pub fn is_busy(&self) -> bool {
        self.tree.filter.is_busy()
    }

    /// Does a little of it.
    pub fn work(&mut self) {
        self.tree.work();
    }

    /// Whether the details are about the selected path; else they are about the layer.
    pub fn is_about_path(&self) -> bool {
        (self.focus != Focus::Layers || self.waste.is_some()) && self.selected().is_some()
    }

    /// What layers do at a path, if it was found out.
    pub fn touched(&self, node: NodeId) -> Option<&Result<Vec<Touched>, String>> {
        self.touched.as_ref().filter(|(known, _)| *known == node).map(|(_, touched)| touched)
    }

    /// What has to be found out for what is shown now, once.
    pub fn request(&mut self) -> Option<Request> {
        if self.waste.as_mut().is_some_and(WastePane::asks) {
            return Some(Request::Waste);
        }
        let node = self.selected().filter(|node| self.is_about_path() && self.asked != Some(*node))?;
        self.asked = Some(node);
        Some(Request::Touches(node))
    }

    /// Takes what was found out.
    pub fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Touches(node, touched) => self.touched = Some((node, touched)),
            Answer::Waste(waste) => {
                if let Some(pane) = self.waste.as_mut().or(self.put_away.as_mut()) {
                    pane.take(waste);
                }
            }
        }
    }

    /// Where everything is on a screen. What is selected is brought onto it.
    pub fn arrange(&mut self, area: Rect) -> Panes {
        let panes = layout::panes(area, self.focus);
        self.layers.fit(self.merged.layers().len(), usize::from(panes.layers.inner.height));
        let height = usize::from(panes.tree.inner.height).saturating_sub(draw::header_height(&panes));
        match &mut self.waste {
            Some(waste) => waste.fit(height),
            None => self.tree.cursor.fit(self.tree.rows().len(), height),
        }
        self.details_text = details::text(self, usize::from(panes.details.inner.width));
        self.details.scroll_fit(self.details_text.len(), usize::from(panes.details.inner.height));
        if let Some(help) = &mut self.help {
            help.scroll_fit(draw::help::height(), usize::from(draw::help::area(area).height.saturating_sub(2)));
        }
        panes
    }

    /// What a key changes.
    pub fn apply(&mut self, action: Action) -> Outcome {
        let selected = (self.selected(), self.number());
        self.notice = None;
        self.dispatch(action);
        if (self.selected(), self.number()) != selected {
            self.details = Cursor::default();
        }
        action.outcome()
    }

    fn dispatch(&mut self, action: Action) {
        match action {
            Action::Quit | Action::Suspend | Action::Redraw => {}
            Action::Help => self.help = if self.help.is_some() { None } else { Some(Cursor::default()) },
            Action::Back => self.back(),
            Action::Go(motion) => self.go(motion),
            _ if self.help.is_some() => {}
            Action::NextPane => self.next_pane(1),
            Action::PreviousPane => self.next_pane(2),
            Action::LayerAbove => self.move_layer(Motion::Down),
            Action::LayerBelow => self.move_layer(Motion::Up),
            Action::ToggleWaste => self.toggle_waste(),
            Action::Enter => self.enter(),
            Action::Provider => self.go_to_provider(),
            Action::Open if self.waste.is_some() => self.enter(),
            _ if self.waste.is_some() => {}
            _ => self.in_tree(action),
        }
    }

    /// Actions on the tree alone.
    fn in_tree(&mut self, action: Action) {
        let tree = &mut self.tree;
        match action {
            Action::Open if self.focus == Focus::Tree => tree.open(),
            Action::Close if self.focus == Focus::Tree => tree.close(),
            Action::Open => self.focus = Focus::Tree,
            Action::OpenAll => tree.open_all(),
            Action::CloseAll => tree.close_all(),
            Action::ToggleChanges => tree.toggle_changes(),
            Action::ToggleSort => tree.toggle_sort(),
            Action::StartFilter => {
                tree.filter.typing = true;
                self.focus = Focus::Tree;
            }
            Action::Type(c) => tree.edit_filter(|text| text.push(c)),
            Action::Erase => {
                tree.edit_filter(|text| text.truncate(text.len() - text.chars().next_back().map_or(0, char::len_utf8)))
            }
            Action::EraseAll => tree.edit_filter(String::clear),
            _ => {}
        }
    }

    fn back(&mut self) {
        if self.help.take().is_some() {
            return;
        }
        if self.waste.is_some() {
            self.toggle_waste();
        } else {
            self.tree.edit_filter(String::clear);
            self.tree.filter.typing = false;
        }
    }

    fn go(&mut self, motion: Motion) {
        match (&mut self.help, &mut self.waste, self.focus) {
            (Some(help), ..) => help.scroll(motion, draw::help::height()),
            (_, _, Focus::Layers) => self.move_layer(motion),
            (_, _, Focus::Details) => self.details.scroll(motion, self.details_text.len()),
            (_, Some(waste), Focus::Tree) => waste.go(motion),
            (_, None, Focus::Tree) => self.tree.go(motion),
        }
    }

    fn move_layer(&mut self, motion: Motion) {
        self.layers.go(motion, self.merged.layers().len());
        if let Some(number) = self.number() {
            self.tree.set_layer(number);
        }
    }

    fn next_pane(&mut self, steps: usize) {
        const ORDER: [Focus; 3] = [Focus::Layers, Focus::Tree, Focus::Details];
        let at = ORDER.iter().position(|focus| *focus == self.focus).unwrap_or(0);
        self.focus = ORDER[(at + steps) % ORDER.len()];
        self.tree.filter.typing = false;
    }

    fn enter(&mut self) {
        if self.tree.filter.typing {
            self.tree.filter.typing = false;
        } else if self.focus == Focus::Layers {
            self.focus = Focus::Tree;
        } else if let Some(file) = self.waste.as_ref().and_then(|waste| waste.selected()) {
            self.toggle_waste();
            self.select_layer(file.layer);
            self.tree.go_to(file.node, file.layer);
        } else if self.waste.is_none() && !self.tree.toggle() {
            self.go_to_provider();
        }
    }

    fn select_layer(&mut self, number: Number) {
        self.layers.at = number.index();
    }

    /// Selects the layer that gives the selected path in the view; of what is deleted, the one that gave it.
    fn go_to_provider(&mut self) {
        if self.waste.is_some() {
            return self.enter();
        }
        let (Some(node), Some(number)) = (self.tree.selected(), self.number()) else { return };
        let below = number.below();
        let before = || below.and_then(|below| self.merged.visible(node, below));
        let Some(found) = self.merged.visible(node, number).or_else(before) else { return };
        let (provider, path) = (found.since(), shown(&self.merged.path(node)));
        self.notice = Some(format!("layer {provider} gives {path}"));
        self.select_layer(provider);
        self.tree.set_layer(provider);
    }

    fn toggle_waste(&mut self) {
        self.tree.filter.typing = false;
        self.focus = Focus::Tree;
        match self.waste.take() {
            Some(shown) => self.put_away = Some(shown),
            None => self.waste = Some(self.put_away.take().unwrap_or_else(|| WastePane::new(self.merged))),
        }
    }
}
