"""Values: what AgentCom talks about, without behaviour that needs the outside world."""
