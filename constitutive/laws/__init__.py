"""Laws: from strain to energy, stress and tangent."""
