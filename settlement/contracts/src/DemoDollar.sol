// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/**
 * @title DemoDollar
 * @notice A token of 6 decimals without any value, for development chains: its owner makes as much as a demo needs.
 */
contract DemoDollar is ERC20, Ownable {
    constructor(address owner) ERC20("Demo Dollar", "DEMO") Ownable(owner) {}

    /// @notice Makes `amount` token units for `recipient`. For the owner.
    function mint(address recipient, uint256 amount) external onlyOwner {
        _mint(recipient, amount);
    }

    /// @notice 6, as the dollars that are worth one.
    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
