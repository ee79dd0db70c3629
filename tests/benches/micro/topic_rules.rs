//! The topic rules as they are shipped: what a broker without a configuration has.

use std::sync::Arc;

use tidings_config::{Settings, TopicRule};
use tidings_core::rules::{Keep, RuleSource, Rules};

pub fn shipped() -> Arc<Rules> {
    let sources: Vec<_> = Settings::default().topics.iter().map(source).collect();
    Arc::new(Rules::compile(&sources).expect("the shipped rules compile"))
}

fn source(rule: &TopicRule) -> RuleSource {
    RuleSource {
        pattern: rule.pattern.clone(),
        publish: rule.publish.clone(),
        subscribe: rule.subscribe.clone(),
        stream: rule.stream.clone(),
        keep: rule.keep.map(|keep| Keep {
            max_count: keep.count,
            ..Keep::default()
        }),
        ..RuleSource::default()
    }
}
