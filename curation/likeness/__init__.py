"""When two pictures or two captions are too alike to be told apart."""
