"""``farl watch``: a page that follows runs. What is read of them comes from ``farl.following``; here it is only shown."""
