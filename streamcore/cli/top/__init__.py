"""streamctl top: what it shows (facts), what its user has chosen (view), how that looks (page), and the terminal it is shown on."""
