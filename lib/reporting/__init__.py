"""From responses to tables, figures, verdicts and pages."""
