//! Does the model's coordinator answer as Kafka's does? Rule by rule.
