// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @notice Shares as one writes them first: income belongs at once to whoever holds shares, and nothing is locked.
contract NaiveShares is ERC20 {
    IERC20 public immutable token;
    uint256 public perShare;
    uint256 public known;
    uint256 public withdrawn;
    mapping(address holder => uint256) public owing;
    mapping(address holder => uint256) public seen;

    constructor(IERC20 token_, address issuer, uint256 supply) ERC20("Naive", "NAIVE") {
        token = token_;
        _mint(issuer, supply);
    }

    function sync() public {
        noteOf(token.balanceOf(address(this)) + withdrawn - known);
    }

    /// @notice Believes what it is told, such as what a ledger says that it has paid.
    function noteOf(uint256 amount) public {
        known += amount;
        perShare += amount / totalSupply();
    }

    function withdraw() external returns (uint256 amount) {
        _settle(msg.sender);
        amount = owing[msg.sender];
        owing[msg.sender] = 0;
        withdrawn += amount;
        token.transfer(msg.sender, amount);
    }

    /// @notice Pays everybody.
    function payAll(address[] calldata holders) external {
        for (uint256 i = 0; i < holders.length; ++i) {
            _settle(holders[i]);
            uint256 amount = owing[holders[i]];
            owing[holders[i]] = 0;
            withdrawn += amount;
            require(token.transfer(holders[i], amount), "refused");
        }
    }

    function _settle(address holder) private {
        owing[holder] += balanceOf(holder) * (perShare - seen[holder]);
        seen[holder] = perShare;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (from != address(0)) _settle(from);
        _settle(to);
        super._update(from, to, amount);
    }
}

/// @notice Shares that are made when they are bought, at the price of what is in the pot.
contract NaiveVault is ERC20 {
    IERC20 public immutable token;

    constructor(IERC20 token_) ERC20("Vault", "VAULT") {
        token = token_;
    }

    function buy(uint256 amount) external returns (uint256 bought) {
        uint256 pot = token.balanceOf(address(this));
        bought = totalSupply() == 0 ? amount : amount * totalSupply() / pot;
        token.transferFrom(msg.sender, address(this), amount);
        _mint(msg.sender, bought);
    }

    function cashOut() external returns (uint256 amount) {
        amount = token.balanceOf(address(this)) * balanceOf(msg.sender) / totalSupply();
        _burn(msg.sender, balanceOf(msg.sender));
        token.transfer(msg.sender, amount);
    }
}

/// @notice A release that begins again, with what is left, whenever something arrives.
contract NaiveRelease {
    IERC20 public immutable token;
    uint256 private releasedBefore;
    uint256 private rest;
    uint256 private start;

    constructor(IERC20 token_) {
        token = token_;
    }

    function sync() external {
        releasedBefore = released();
        rest = token.balanceOf(address(this)) - releasedBefore;
        start = block.timestamp;
    }

    function released() public view returns (uint256) {
        uint256 age = block.timestamp - start;
        return releasedBefore + rest * (age < 7 days ? age : 7 days) / 7 days;
    }
}
