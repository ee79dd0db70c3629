//! What is shipped beside the program: settings, unit, completions, manual pages, examples.

mod files;
mod proxies;
mod service;
