//! Decisions for people and machines: text, JSON, SARIF and JUnit.
