//! Who answers metadata: registries, HTTP servers, git, fixtures.
