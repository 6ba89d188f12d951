//! Which tools the client knows as tools of free text: what a model sends them as a function is unpacked.

use std::collections::BTreeSet;

use crate::neutral::{ForClient, ToolKind};

/// Their names, as the client knows them.
#[derive(Debug, Default)]
pub(crate) struct FreeTools {
    names: BTreeSet<String>,
}

impl FreeTools {
    /// Those of this client's request.
    pub fn of(client: &ForClient) -> Self {
        let tools = client.request.iter().flat_map(|request| &request.tools);
        let free = tools.filter(|tool| matches!(tool.kind, ToolKind::FreeForm { .. }));
        Self { names: free.map(|tool| tool.name.clone()).collect() }
    }

    /// Whether this is one.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}
