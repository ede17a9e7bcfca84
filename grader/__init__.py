"""The course's side: grades a submission, never imports homework/, and never unpickles."""
