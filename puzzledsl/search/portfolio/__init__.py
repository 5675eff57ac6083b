"""Portfolio of exact engines that share the incumbent and the bound."""
