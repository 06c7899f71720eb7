//! Does the model's member do what librdkafka was measured to do? Story by story.
