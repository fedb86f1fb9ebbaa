//! What models write when they call a tool, and when they think.
