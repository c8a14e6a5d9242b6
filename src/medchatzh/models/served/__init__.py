"""Models behind OpenAI-compatible servers: `endpoint` asks, `wire` speaks their dialects, `answers` remembers."""
